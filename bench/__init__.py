"""Benchmarks: `python -m bench NAME [--quick] [--json FILE]`; a module each, but `report` and `processes`."""
