"""The accounts of this node: loaded with their shards, found by calls, maintained, or left to their owner."""
