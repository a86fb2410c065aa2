"""The xDS control plane: tells gRPC clients which endpoints to send their calls to."""

from mesh_router.xds.control_plane import ControlPlane

__all__ = ["ControlPlane"]
