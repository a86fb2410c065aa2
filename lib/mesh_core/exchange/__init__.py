"""Unary calls of many callers, gathered into frames on one connection to each peer.

Over gRPC every step of a call hands over between threads, which costs more than all else; here it all
happens on the event loop. The receiving server serves a call through the same handler, with the same
credentials, deadline, metadata and errors, so callers cannot tell the two apart.
"""

from mesh_core.exchange.client import Exchange
from mesh_core.exchange.outcome import CallFailed, Response
from mesh_core.exchange.pool import LARGEST_REQUEST, ExchangePool

__all__ = ["LARGEST_REQUEST", "CallFailed", "Exchange", "ExchangePool", "Response"]
