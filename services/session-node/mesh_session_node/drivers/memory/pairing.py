"""Pairing with the network in memory: the test holds the phone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mesh_session_node.drivers.interface.driver import PairingCode
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, PairingRefused
from mesh_session_node.drivers.memory.state import MemoryState

_LIFETIME_US = 20_000_000


class MemoryPairing:
    """One attempt, which has shown its first code. `show`, `accept`, `refuse`, `time_out` and `lose` are what
    happens next; the session hears of it in the next turn of the loop.
    """

    def __init__(
        self, make_state: Callable[[str, str], MemoryState], *, by_code: bool, phone: str, device_name: str
    ) -> None:
        self.by_code = by_code
        self.phone = phone
        self.device_name = device_name
        self.codes: list[PairingCode] = []
        """What was shown, the present one last."""
        self.over = False
        """It has ended: accepted, refused, timed out, or given up by the session."""
        self._make_state = make_state
        self._steps: asyncio.Queue[PairingCode | MemoryState | Exception | None] = asyncio.Queue()
        self.show()

    def show(self) -> PairingCode:
        """Show a code in place of the present one."""
        text = f"{len(self.codes) + 1:04}"
        expire = time.time_ns() // 1000 + _LIFETIME_US
        if self.by_code:
            code = PairingCode("", f"ABCD-{text}", expire)
        else:
            code = PairingCode(f"memory,{text}", "", expire)
        self.codes.append(code)
        self._steps.put_nowait(code)
        return code

    def accept(self, phone: str = "", push_name: str = "") -> MemoryState:
        """Scan the QR code or type the letters; `phone` may be left out when the session named one."""
        state = self._make_state(phone or self.phone, push_name)
        self._steps.put_nowait(state)
        return state

    def refuse(self, detail: str) -> None:
        """The network will not pair."""
        self._steps.put_nowait(PairingRefused(detail))

    def time_out(self) -> None:
        """Nobody accepted in time."""
        self._steps.put_nowait(None)

    def lose(self, detail: str = "the network closed the connection") -> None:
        """The connection breaks."""
        self._steps.put_nowait(ConnectionEnded(End.LOST, detail))

    async def next(self) -> PairingCode | MemoryState | None:
        """The next step; None when nobody accepted in time. Raises `PairingRefused`, `ConnectionEnded`."""
        step = await self._steps.get()
        if isinstance(step, Exception):
            raise step
        return step
