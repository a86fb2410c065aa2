"""Who takes which kind of notice."""

from __future__ import annotations

from collections.abc import Mapping

from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered
from mesh_session_node.inbound.calls import Calls
from mesh_session_node.inbound.notices import NoticeTaker


def notice_takers() -> Mapping[type, NoticeTaker]:
    """By the kind of notice. What is not here is acknowledged, and nothing comes of it."""
    calls = Calls()
    return {
        CallEnded: calls,
        CallOffered: calls,
    }
