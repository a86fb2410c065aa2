"""The chassis that every service serves gRPC on."""

from mesh_core.rpc.server.drain import Draining, finishes, taken_within
from mesh_core.rpc.server.server import Server

__all__ = ["Draining", "Server", "finishes", "taken_within"]
