"""ChannelService."""
