"""The services that callers see, one module each, and what all calls about an account have in common."""
