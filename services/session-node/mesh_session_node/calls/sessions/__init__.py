"""SessionService, and the settings of a session."""
