"""What a session counts."""

from __future__ import annotations

from mesh_session_node.session.account import SessionRow


class Counters:
    """What the session has done since its account was created; `stored` is what its row says of it."""

    __slots__ = ("connects", "failed", "received", "sent", "stored")

    def __init__(self, row: SessionRow) -> None:
        self.sent = row.sent
        self.received = row.received
        self.failed = row.failed
        self.connects = row.connects
        self.stored = self.values()

    def values(self) -> tuple[int, int, int, int]:
        """In the order sent, received, failed, connects."""
        return self.sent, self.received, self.failed, self.connects
