"""The journal: everything a session-node writes, gathered from all its callers into one transaction after
another.
"""

from mesh_session_node.journal.outcomes import (
    COMMITTED,
    REFUSED,
    Committed,
    Duplicate,
    IncarnationExpired,
    Mismatch,
    Outcome,
    Poison,
    Refused,
    unwrap,
)
from mesh_session_node.journal.rows import (
    AccountRef,
    Action,
    ContentUpdate,
    Credential,
    Disconnect,
    Event,
    FetchDone,
    FetchRetry,
    InboundMessage,
    MemberReceipt,
    OutboundMessage,
    Row,
    SessionSnapshot,
    StatusChange,
    may_become,
)
from mesh_session_node.journal.writer import Journal

__all__ = [
    "COMMITTED",
    "REFUSED",
    "AccountRef",
    "Action",
    "Committed",
    "ContentUpdate",
    "Credential",
    "Disconnect",
    "Duplicate",
    "Event",
    "FetchDone",
    "FetchRetry",
    "InboundMessage",
    "IncarnationExpired",
    "Journal",
    "MemberReceipt",
    "Mismatch",
    "OutboundMessage",
    "Outcome",
    "Poison",
    "Refused",
    "Row",
    "SessionSnapshot",
    "StatusChange",
    "may_become",
    "unwrap",
]
