"""Who owns what, as far as etcd was seen: a live copy for routers and session-nodes."""

from mesh_core.ownership.view.view import Owner, OwnerLookup, OwnerView

__all__ = ["Owner", "OwnerLookup", "OwnerView"]
