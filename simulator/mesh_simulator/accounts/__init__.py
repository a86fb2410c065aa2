"""Who is on the network: accounts, groups and people, and what can be asked about them."""
