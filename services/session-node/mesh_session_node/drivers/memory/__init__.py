"""A network in memory, for tests of everything around a session: the test says what the network does."""
