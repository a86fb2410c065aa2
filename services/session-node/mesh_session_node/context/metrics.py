"""The node's own metrics."""

from __future__ import annotations

from mesh_core.metrics import Open, counter, counters, gauge, gauges, histogram
from sessionmesh.v1 import content_pb2, message_pb2, session_pb2

STATE_NAMES = {
    number: name.removeprefix("SESSION_STATE_") for name, number in session_pb2.SessionState.items()
}
CAUSE_NAMES = {
    number: name.removeprefix("SESSION_CAUSE_") for name, number in session_pb2.SessionCause.items()
}
STATUS_NAMES = {
    number: name.removeprefix("MESSAGE_STATUS_") for name, number in message_pb2.MessageStatus.items()
}
_NETWORKS = ("simulated", "whatsapp_web")
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)

SESSIONS = gauges(
    "mesh_sessions",
    "Sessions on this node by state.",
    answers="How many accounts are online, and what are the others doing?",
    state=STATE_NAMES.values(),
)
for _state in STATE_NAMES.values():
    SESSIONS.labels(_state).set(0)
ENDS = counters(
    "mesh_session_ends_total",
    "Ends of connections by cause.",
    answers="Why do sessions end?",
    cause=CAUSE_NAMES.values(),
)
RECONNECT_DELAY = histogram(
    "mesh_session_reconnect_delay_seconds",
    "How long a session that failed waits before it connects again.",
    answers="How long do accounts stay offline after a failure?",
    buckets=(1, 2.5, 5, 10, 20, 40, 80, 160, 300, 1200, 3600),
)
CONNECT_DURATION = histogram(
    "mesh_session_connect_duration_seconds",
    "From dialling to being logged in.",
    answers="How fast does the network log accounts in?",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30),
)
UNUSABLE = counters(
    "mesh_session_unusable_logins_total",
    "Logins that cannot succeed before the client is updated or the account paired again.",
    answers="Does the network refuse this version, or a stored state?",
    network=_NETWORKS,
    reason=("CLIENT_EXPIRED", "STATE_UNUSABLE"),
)
QUARANTINED = counter(
    "mesh_sessions_quarantined_total",
    "Sessions that failed too often in an hour.",
    answers="Do some accounts fail again and again?",
)
RISKY = gauge(
    "mesh_sessions_risky",
    "Sessions that the alarm account_risk is on for.",
    answers="Which accounts may the network ban soon?",
)
UNLOADABLE = gauge(
    "mesh_sessions_unloadable",
    "Accounts of this node's shards that cannot run here.",
    answers="Are there accounts whose rows cannot be used?",
)
NETWORK_FAILING = gauges(
    "mesh_network_failing",
    "1 while the network fails for most sessions.",
    answers="Is it the network, or is it us?",
    network=_NETWORKS,
)
NETWORK_HELD = gauges(
    "mesh_network_held_sessions",
    "Sessions that wait for a failing network to work again.",
    answers="How many accounts does an outage keep offline?",
    network=_NETWORKS,
)
MESSAGES = counters(
    "mesh_messages_total",
    "Messages that reached a status: of outbound ones each status once, RECEIVED of those that came.",
    answers="How many messages of which kind go and come, and how far do they get?",
    direction=("outbound", "inbound", "synced"),
    kind=Open("kinds of content", 50),
    status=(*[*STATUS_NAMES.values()][1:], "RECEIVED"),
)
FAILED = counters(
    "mesh_messages_failed_total",
    "Messages that ended without being sent.",
    answers="Why are messages not sent?",
    reason=(
        *(name.removeprefix("FAILURE_REASON_") for name in message_pb2.FailureReason.keys()[1:]),
        "EXPIRED",
    ),
)
RESENT = counter(
    "mesh_messages_resent_total",
    "Messages handed to the network again.",
    answers="How much did lost connections cost?",
)
ACCEPT_DURATION = histogram(
    "mesh_message_accept_duration_seconds",
    "From when a message came to when it was stored.",
    answers="How fast are messages accepted?",
)
SEND_DELAY = histogram(
    "mesh_message_send_delay_seconds",
    "From when a message was accepted, or due, to when the network was handed it first.",
    answers="How long do messages wait for limits, pacing and connections?",
    buckets=_LONG,
)
ACK_DURATION = histogram(
    "mesh_message_ack_duration_seconds",
    "From when the network was handed a message to its acknowledgement.",
    answers="How fast is the network?",
)
DELIVERY_DURATION = histogram(
    "mesh_message_delivery_duration_seconds",
    "From when a message was accepted, or due, to when it first reached a device.",
    answers="How fast do messages arrive?",
    buckets=_LONG,
)
OUTBOX = gauge(
    "mesh_outbox_messages",
    "Messages that the network has not acknowledged, scheduled ones too.",
    answers="How much waits to be sent?",
)
OUTBOX_AGE = gauge(
    "mesh_outbox_oldest_age_seconds",
    "Since when the message that waits longest was accepted, or due.",
    answers="Does a message wait that should have been sent?",
)
MISPLACED = counter(
    "mesh_node_misplaced_calls_total",
    "Calls for accounts of other nodes, sent on to them.",
    answers="Do callers know the owners?",
)
MEDIA = counters(
    "mesh_media_transfers_total",
    "Media moved between the network and the store.",
    answers="Do files of messages arrive?",
    direction=("outbound", "inbound"),
    outcome=("stored", "known", "again", "lost"),
)


def kind_of(content: content_pb2.Content) -> str:
    """What kind of content it is, as a label."""
    return content.WhichOneof("kind") or "none"
