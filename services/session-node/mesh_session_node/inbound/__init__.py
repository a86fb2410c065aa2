"""What the network brings: messages, and their media."""
