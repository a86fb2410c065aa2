"""Accounts that are linked devices of WhatsApp, on a network of ours: what they cost, and what kills do."""
