"""Unary calls of many callers, gathered into frames on one stream to each peer.

A call costs its sender and its receiver a few microseconds like this, where one that travels by itself costs
each of them most of what gRPC costs at all. The receiving server serves it through the same handler, with the
same credentials, deadline, metadata and errors, so callers cannot tell the two apart.
"""

from mesh_core.exchange.client import Exchange
from mesh_core.exchange.outcome import CallFailed, Response
from mesh_core.exchange.pool import LARGEST_REQUEST, ExchangePool

__all__ = ["LARGEST_REQUEST", "CallFailed", "Exchange", "ExchangePool", "Response"]
