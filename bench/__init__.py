"""Benchmarks: `python -m bench NAME [--quick] [--json FILE]`; each a module here, or a folder."""
