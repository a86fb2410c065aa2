"""Several changes of one message's status in a batch, as one."""

from __future__ import annotations

from mesh_core.message_status import may_become
from mesh_session_node.journal.rows import StatusChange
from sessionmesh.v1 import message_pb2


class MergedStatus:
    """One message's change of status in a batch: the last legal one, with the time of SENT on the way.

    Where it depends on the status before both whether it or a later one is legal, as with FAILED and then
    READ, the later one has a row in the next round.
    """

    __slots__ = (
        "account",
        "failure",
        "failure_code",
        "failure_detail",
        "message",
        "network_id",
        "round",
        "row",
        "sent_time",
        "status",
        "time",
    )

    def __init__(self, account: int, row: int, round_: int, change: StatusChange) -> None:
        self.account, self.row, self.round, self.message = account, row, round_, change.message
        self.sent_time: int | None = None
        self.network_id: str | None = None
        self._set(change)

    def merge(self, change: StatusChange) -> bool:
        """Follow the present change with this one; False when it may not follow."""
        if not may_become(self.status, change.status):
            return False
        self._set(change)
        return True

    def become(self, status: int | None) -> int | None:
        """The status that an event of one of them tells of; None where it is the one that all end with."""
        return None if status == self.status else status

    def _set(self, change: StatusChange) -> None:
        self.status, self.time = change.status, change.time
        self.failure, self.failure_code = change.failure, change.failure_code
        self.failure_detail = change.failure_detail
        if change.status == _SENT:
            self.sent_time = change.time
        if change.network_id is not None:
            self.network_id = change.network_id


_SENT = message_pb2.MESSAGE_STATUS_SENT
