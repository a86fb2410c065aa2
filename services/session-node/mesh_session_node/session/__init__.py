"""One account's session: its states, its outbox, its connection."""
