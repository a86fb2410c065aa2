"""ChatService: chats, labels, and history on demand."""
