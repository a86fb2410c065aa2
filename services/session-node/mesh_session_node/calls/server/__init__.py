"""What the node tells of itself: to callers (ServerService), and to the other parts (NodeService)."""
