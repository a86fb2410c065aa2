"""`mesh fleet`: what an operator sees of the session-nodes, and does to them."""
