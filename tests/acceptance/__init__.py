"""A whole mesh, as its callers and operators see it. All tests share one, until the last has ended."""
