"""The trace that a session is in: what moved it last, and how long it was away."""

from __future__ import annotations

from mesh_core.telemetry import tracing
from mesh_session_node.account.state import Cause
from mesh_session_node.context import metrics
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded


class SessionTrace:
    """One account's. `traceparent` is of what last moved the session, until that is done: a call, a move of
    its shard, the loss of its connection; "" while there is nothing of the kind.
    """

    __slots__ = ("_account", "_network", "_outage", "traceparent")

    def __init__(self, account: str, network: str) -> None:
        self.traceparent = ""
        self._account = account
        self._network = network
        self._outage: tracing.Span | None = None
        """Since the session is not connected although it should be."""

    def follow_call(self) -> None:
        """What happens to the session now is of the trace of the call that this task serves."""
        self.traceparent = tracing.current_traceparent()

    def dialling(self) -> tracing.Span:
        """A span of an attempt to connect; not current, as the connection that it makes outlives it."""
        about = {"mesh.account.id": self._account, "messaging.system": self._network}
        span = tracing.start_span(
            "mesh.session.connect", kind="client", parent=self.traceparent, attributes=about
        )
        self.traceparent = self.traceparent or span.traceparent
        return span

    def lost(self, cause: Cause, detail: str, *, connected: bool) -> None:
        """It is away from now on, and will be back; nothing when that is known."""
        if self._outage is None:
            self._outage = self._ending("mesh.session.outage", cause, detail, connected=connected)

    def ended(self, cause: Cause, detail: str, *, connected: bool) -> None:
        """The network has ended it for good."""
        self._ending("mesh.session.end", cause, detail, connected=connected).end()

    def connected(self) -> None:
        """It is back."""
        self.over()
        self.traceparent = ""

    def over(self) -> None:
        """Nobody waits for it any more."""
        if self._outage is not None:
            self._outage.end()
            self._outage = None

    def _ending(self, name: str, cause: Cause, detail: str, *, connected: bool) -> tracing.Span:
        """Of a trace of its own, unless the connection was only being made."""
        span = tracing.start_span(
            name,
            parent="" if connected else self.traceparent,
            attributes={"mesh.account.id": self._account, "mesh.session.cause": metrics.CAUSE_NAMES[cause]},
        )
        span.fail(detail)
        self.traceparent = span.traceparent
        return span


def told(ended: ConnectionEnded) -> str:
    """Why there is no connection, for a span."""
    return f"{ended.end.name}: {ended.detail}"
