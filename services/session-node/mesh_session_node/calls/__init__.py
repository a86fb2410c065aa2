"""The services that callers see, a folder per family, and what all calls about an account have in common."""
