"""Forwards calls as raw bytes to the endpoints that serve them."""

from mesh_router.proxy.bulk import BulkSender
from mesh_router.proxy.forwarder import Forwarder
from mesh_router.proxy.upstreams import Upstreams

__all__ = ["BulkSender", "Forwarder", "Upstreams"]
