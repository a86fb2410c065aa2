"""Forwards calls as raw bytes to whoever serves them."""

from mesh_router.proxy.bulk import BulkSender
from mesh_router.proxy.forward import Forwarder
from mesh_router.proxy.peers import Peers

__all__ = ["BulkSender", "Forwarder", "Peers"]
