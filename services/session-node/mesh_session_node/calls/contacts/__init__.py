"""ContactService, ProfileService and PresenceService."""
