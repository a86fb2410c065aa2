"""The gRPC services that a session-node answers."""
