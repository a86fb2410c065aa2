"""The xDS control plane: gRPC clients ask it where to send their calls, and send them there themselves."""

from mesh_router.xds.control_plane import ControlPlane

__all__ = ["ControlPlane"]
