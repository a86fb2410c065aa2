"""What telemetry costs: a whole mesh with and without traces, and one call that is not recorded."""
