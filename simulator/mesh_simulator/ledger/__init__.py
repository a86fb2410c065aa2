"""What the network saw: an append-only file of records. Knows nothing of the network itself."""
