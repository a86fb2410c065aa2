"""The session of one account: its state, its connection, its pairing, and what the API shows of it."""
