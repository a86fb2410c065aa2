"""What happens to the tests when a guard is taken out: `python -m tests.mutations`."""
