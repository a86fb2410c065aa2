"""What happens to messages and receipts, to and from the clients."""
