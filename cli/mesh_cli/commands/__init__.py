"""The everyday commands: each one call, or a few, through the Python client."""
