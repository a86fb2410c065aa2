"""What each benchmark measures with: worker processes, CPU and memory, a yardstick, the report."""
