"""`mesh doctor`: what can be told of a mesh, the servers that it needs and this machine by asking them."""
