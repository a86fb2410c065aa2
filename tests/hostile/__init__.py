"""What hostile tenants, strangers and foreign data try on a running mesh, in figures.

`python -m tests.hostile --json FILE` tries all of it, and so does `tests/acceptance/test_hostile.py`.
"""
