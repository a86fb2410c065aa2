"""What a session needs of a network, whichever it is."""
