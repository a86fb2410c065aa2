"""What the session of an account begins with: rows, as Postgres has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.session.limits import SendLimits
from sessionmesh.v1 import session_pb2


@dataclass(frozen=True, slots=True)
class AccountRow:
    """Desired state; the router's to write."""

    uuid: UUID
    tenant: UUID
    shard: int
    driver: str
    phone: str
    labels: Mapping[str, str]
    limits: SendLimits
    online: bool
    """Whether it is to be connected."""
    deleted: bool
    version: int
    """Every update raises it: of two rows the one with the higher version is the later one."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """The session as the last owner stored it. Times in microseconds since the epoch."""

    state: session_pb2.SessionState.ValueType = session_pb2.SESSION_STATE_NEW
    cause: session_pb2.SessionCause.ValueType = session_pb2.SESSION_CAUSE_UNSPECIFIED
    detail: str = ""
    phone: str = ""
    network_user_id: str = ""
    push_name: str = ""
    sent: int = 0
    received: int = 0
    failed: int = 0
    connects: int = 0
    settings: bytes = b""
    credential: bytes | None = field(default=None, repr=False)
    """Sealed."""
    update_time: datetime | None = None


NO_SESSION = SessionRow()
