"""How many acts an account may do: what the network sees of it beside the messages that it sends."""

from __future__ import annotations

from mesh_core.errors import ResourceExhausted
from mesh_session_node.outbound.limits import HOUR, MINUTE, Window


class ActLimits:
    """What one account has done in the last minute and hour. Times are monotonic seconds. A new owner begins
    with nothing.
    """

    __slots__ = ("_hour", "_minute", "_per_hour", "_per_minute")

    def __init__(self, per_minute: int, per_hour: int) -> None:
        self._per_minute, self._per_hour = per_minute, per_hour
        self._minute, self._hour = Window(MINUTE), Window(HOUR)

    def take(self, now: float) -> None:
        """Count one act. Raises `ResourceExhausted` RATE_LIMITED when there were too many."""
        for window, limit, span in (
            (self._minute, self._per_minute, "minute"),
            (self._hour, self._per_hour, "hour"),
        ):
            window.advance(now)
            if window.total >= limit:
                raise ResourceExhausted(
                    f"the account did {limit} acts in the last {span}",
                    "RATE_LIMITED",
                    quota=f"acts_per_{span}",
                    retry_after=max(1.0, window.wait(now)),
                )
        self._minute.add(now)
        self._hour.add(now)
