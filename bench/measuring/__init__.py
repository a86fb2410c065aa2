"""What every benchmark measures with: processes, workers, ratios, the report."""
