"""Whether a server should be sent calls, and why not: what its part needs, looked at every two seconds.

A need that has been met once may fail for `GRACE_SECONDS` before it counts: what the mesh rides out changes
nothing, and a server that all parts share and that stumbles does not take all of them away at once. A need
that is met counts at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
FIRST_LOOK_SECONDS = 0.1
"""Between two looks, and as long as the part has not been ready yet."""
ANSWER_SECONDS = 5.0
"""What has not answered by then does not answer."""
GRACE_SECONDS = 10.0

Check: TypeAlias = Callable[[], Awaitable[str]]
"""Returns "" when all is well, else why not in a few ASCII words, without addresses: anybody may read it."""


class Need:
    """One thing that a part cannot do without."""

    __slots__ = ("_failing_since", "_met", "check", "name", "reason")

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self.check = check
        self.reason = f"{name} has not been looked at yet"
        self._met = False
        self._failing_since: float | None = None

    def seen(self, reason: str, now: float) -> None:
        """What a look at `now` (seconds) found."""
        self.reason = reason
        if not reason:
            self._met, self._failing_since = True, None
        elif self._failing_since is None:
            self._failing_since = now

    def counts(self, now: float) -> bool:
        """Whether it keeps the part from being ready."""
        if self._failing_since is None:
            return not self._met
        return not self._met or now - self._failing_since >= GRACE_SECONDS


class Readiness:
    """Ready without any need, else once all of them were met. `changed` is called when it has changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.reason = ""
        """Why the part is not ready; "" when it is. May be read by any thread."""
        self.started = True
        """Whether it was ready once."""
        self._needs: list[Need] = []
        self._changed = changed
        self._logged = False

    def need(self, name: str, check: Check) -> None:
        """Look at this, too: not ready until `check` has answered well."""
        need = Need(name, check)
        self._needs.append(need)
        self.reason, self.started = need.reason, False

    async def run(self) -> None:
        """Look until cancelled."""
        begun = time.monotonic()
        while True:
            await self.look()
            if not self.started and not self._logged and time.monotonic() - begun >= GRACE_SECONDS:
                self._log()
            await asyncio.sleep(LOOK_SECONDS if self.started else FIRST_LOOK_SECONDS)

    async def look(self) -> None:
        """Look at everything once."""
        found = await asyncio.gather(*(_answer(need) for need in self._needs))
        now = time.monotonic()
        for need, reason in zip(self._needs, found, strict=True):
            need.seen(reason, now)
        self._judge(now)

    def _judge(self, now: float) -> None:
        before, was_started = self.reason, self.started
        self.reason = "; ".join(need.reason for need in self._needs if need.counts(now))
        self.started = was_started or not self.reason
        if bool(before) is bool(self.reason):
            return
        if was_started and self.reason:
            self._log()
        elif self._logged:
            self._logged = False
            logger.info("ready")
        self._changed()

    def _log(self) -> None:
        self._logged = True
        logger.warning("not ready", reason=self.reason)


async def _answer(need: Need) -> str:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await need.check()
    except TimeoutError:
        return f"{need.name} does not answer"
