"""How a client becomes the session of an account: pairing, then logins."""
