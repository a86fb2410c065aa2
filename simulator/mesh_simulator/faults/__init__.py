"""What the network does wrong on purpose."""
