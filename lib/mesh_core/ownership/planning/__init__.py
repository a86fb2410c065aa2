"""Which node should own which shard: pure functions of nodes, loads and the present table."""
