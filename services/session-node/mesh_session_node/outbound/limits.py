"""How fast an account may send, and act beside that: limits on what it does in any minute, hour and day."""

from __future__ import annotations

from mesh_core.errors import ResourceExhausted
from mesh_session_node.store.accounts import SendLimits

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
_PARTS = 12


class Window:
    """A count over the last `span` seconds, kept in twelve parts: a message is counted for at least `span`,
    and for up to a twelfth longer.
    """

    __slots__ = ("_counts", "_part", "_span", "total")

    def __init__(self, span: float) -> None:
        self._span = span / _PARTS
        self._counts = [0] * (_PARTS + 1)
        self._part = 0
        self.total = 0

    def advance(self, now: float) -> None:
        """Forget what is older than the span."""
        part = int(now / self._span)
        gone = part - self._part
        if gone <= 0:
            return
        if gone > _PARTS:
            self._counts = [0] * (_PARTS + 1)
            self.total = 0
        else:
            for old in range(self._part + 1, part + 1):
                at = old % (_PARTS + 1)
                self.total -= self._counts[at]
                self._counts[at] = 0
        self._part = part

    def add(self, now: float, count: int = 1, age: float = 0.0) -> None:
        """Count messages that were sent `age` seconds ago."""
        self.advance(now)
        part = int((now - age) / self._span)
        if self._part - part <= _PARTS:
            self._counts[part % (_PARTS + 1)] += count
            self.total += count

    def wait(self, now: float) -> float:
        """Seconds until the oldest counted message is forgotten."""
        self.advance(now)
        for part in range(self._part - _PARTS, self._part + 1):
            if self._counts[part % (_PARTS + 1)]:
                return (part + _PARTS + 1) * self._span - now
        return 0.0


class Limiter:
    """The three windows of one account. Times are monotonic seconds."""

    __slots__ = ("_day", "_hour", "_minute", "limits")

    def __init__(self, limits: SendLimits) -> None:
        self.limits = limits
        self._minute, self._hour, self._day = Window(MINUTE), Window(HOUR), Window(DAY)

    def take(self, now: float) -> bool:
        """Count one message if it may be sent now."""
        minute, hour, day, limits = self._minute, self._hour, self._day, self.limits
        minute.advance(now)
        hour.advance(now)
        day.advance(now)
        if minute.total >= limits.per_minute or hour.total >= limits.per_hour or day.total >= limits.per_day:
            return False
        minute.add(now)
        hour.add(now)
        day.add(now)
        return True

    def left(self, now: float) -> int:
        """So many messages may be sent now; below 0 where a limit was lowered."""
        for window in (self._minute, self._hour, self._day):
            window.advance(now)
        limits = self.limits
        return min(
            limits.per_minute - self._minute.total,
            limits.per_hour - self._hour.total,
            limits.per_day - self._day.total,
        )

    def wait(self, now: float) -> float:
        """Seconds until a message may be sent; 0 when one may be now. A limit of 0 lets none out: a day."""
        return max(
            (window.wait(now) if limit else DAY) if window.total >= limit else 0.0
            for window, limit in (
                (self._minute, self.limits.per_minute),
                (self._hour, self.limits.per_hour),
                (self._day, self.limits.per_day),
            )
        )

    def recall(self, now: float, count: int, age: float) -> None:
        """Count messages that another node sent `age` seconds ago."""
        for window, span in ((self._minute, MINUTE), (self._hour, HOUR), (self._day, DAY)):
            if age < span:
                window.add(now, count, age)


class ActLimits:
    """What one account has done beside sending in the last minute and hour. Times are monotonic seconds. A
    new owner begins with nothing.
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
