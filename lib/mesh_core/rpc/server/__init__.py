"""The chassis that every service serves gRPC on."""

from mesh_core.rpc.server.drain import Draining, finishes
from mesh_core.rpc.server.server import Server

__all__ = ["Draining", "Server", "finishes"]
