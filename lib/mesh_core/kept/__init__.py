"""What is kept for some hours of what others said, in Redis."""
