"""The transports to the owner of an account under measurement: what each costs, and what callers notice."""
