"""MessageService: sending, and what is done to messages; how requests with content are validated."""
