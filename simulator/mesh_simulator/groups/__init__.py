"""Groups and communities: who is in them, who may do what in them, and who is told of it."""
