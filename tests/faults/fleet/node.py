"""A session-node and the watchdog that is its parent."""

from __future__ import annotations

import psutil

from tests.faults.fleet.parts import Part
from tests.support.eventually import eventually

RESTART_SECONDS = 30.0


class Node(Part):
    """`process` is the watchdog, `child` the session-node that it runs at the moment."""

    @property
    def watchdog(self) -> psutil.Process:
        return self.process

    @property
    def child(self) -> psutil.Process | None:
        children = self.process.children() if self.running else []
        return next(iter(children), None)

    def session_node(self) -> psutil.Process:
        """The session-node's process, which must be there."""
        child = self.child
        assert child is not None, f"{self.name} has no child\n{self.log_tail()}"
        return child

    async def kill_child(self) -> int:
        """SIGKILL the session-node and leave the rest to its watchdog; the pid that was killed."""
        child = self.session_node()
        child.kill()
        return child.pid

    async def until_replaced(self, pid: int) -> psutil.Process:
        """The session-node's next process, after that of `pid`."""

        def replaced() -> psutil.Process | None:
            child = self.child
            return child if child is not None and child.pid != pid else None

        return await eventually(replaced, RESTART_SECONDS, f"another process of {self.name}")

    async def kill_all(self) -> None:
        """SIGKILL watchdog and session-node at the same moment."""
        for process in reversed(self.family()):
            process.kill()
        await self.kill()
