"""One account's way out: accepted, stored, handed to the network, acknowledged, receipted."""
