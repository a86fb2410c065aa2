"""The node's own metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from sessionmesh.v1 import session_pb2

SESSIONS = Gauge("mesh_sessions", "Sessions on this node by state", ["state"])
ACCEPTED = Counter("mesh_messages_accepted", "Messages stored to be sent")
SENT = Counter("mesh_messages_sent", "Messages that the network acknowledged")
DELIVERED = Counter("mesh_messages_delivered", "Messages that reached a device")
FAILED = Counter("mesh_messages_failed", "Messages that ended without being sent", ["reason"])
INBOUND = Counter("mesh_messages_inbound", "Messages received and stored")
RESENT = Counter("mesh_messages_resent", "Messages handed to the network again")
RECONNECTS = Counter("mesh_session_ends", "Ends of connections and attempts by cause", ["cause"])
UNUSABLE = Counter(
    "mesh_logins_unusable",
    "Logins that cannot succeed before the client is updated or the account paired again",
    ["network", "reason"],
)
QUARANTINED = Counter("mesh_sessions_quarantined", "Sessions that failed too often in an hour")
NETWORK_FAILING = Gauge("mesh_network_failing", "1 while the network fails for most sessions", ["network"])
NETWORK_HELD = Gauge(
    "mesh_network_held_sessions", "Sessions that wait for a failing network to work again", ["network"]
)
RISKY = Gauge("mesh_sessions_risky", "Sessions that the alarm account_risk is on for")
UNLOADABLE = Gauge("mesh_accounts_unloadable", "Accounts of this node's shards that cannot run here")
OUTBOX = Gauge("mesh_outbox_messages", "Messages waiting in the outboxes of this node")
MISPLACED = Counter("mesh_node_misplaced_calls", "Calls for accounts of other nodes, sent on to them")
NUMBERS_CHECKED = Counter(
    "mesh_numbers_checked", "Numbers of CheckNumbers, by who knew them: cache or network", ["source"]
)
ASKED = Counter(
    "mesh_network_answers",
    "What callers asked of people, pictures and businesses, and who answered: cache or network",
    ["what", "source"],
)
MEDIA = Counter("mesh_media_transfers", "Media moved between the network and the store", ["way", "outcome"])

STATE_NAMES = {
    number: name.removeprefix("SESSION_STATE_") for name, number in session_pb2.SessionState.items()
}
CAUSE_NAMES = {
    number: name.removeprefix("SESSION_CAUSE_") for name, number in session_pb2.SessionCause.items()
}
