"""Calls between processes: the server chassis, connections between parts, channels, credentials."""
