"""GroupService and CommunityService."""
