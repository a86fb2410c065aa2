"""Unary calls of many callers, batched into frames on one connection to each peer.

Over gRPC every step of a call hands over between threads, which costs more than all else; here it all
happens on the event loop. The receiving server serves a call through the same handler, with the same
credentials, deadline, metadata and errors, so callers cannot tell the two apart.
"""

from mesh_core.rpc.peers.client import PeerConnection
from mesh_core.rpc.peers.outcome import CallFailed, Response
from mesh_core.rpc.peers.pool import MAX_REQUEST_BYTES, PeerPool

__all__ = ["MAX_REQUEST_BYTES", "CallFailed", "PeerConnection", "PeerPool", "Response"]
