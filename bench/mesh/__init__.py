"""A whole mesh under measurement: started, given accounts, put under load, and judged."""
