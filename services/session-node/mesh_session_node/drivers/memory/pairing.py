"""Pairing with the network in memory: the test holds the phone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mesh_session_node.drivers.interface.device import PLAIN_DEVICE, NewDevice
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, PairingRefused
from mesh_session_node.drivers.interface.pairing import (
    Paired,
    PairingCode,
    PairingStep,
    PasskeyComparison,
    PasskeyRequest,
)
from mesh_session_node.drivers.interface.state import DriverState

_LIFETIME_US = 20_000_000


class MemoryPairing:
    """Implements `Pairing`: one attempt, which has shown its first code. `show`, `ask_passkey`, `compare`,
    `accept`, `refuse`, `time_out` and `lose` are what happens next; the session hears of it in the next turn
    of the loop.
    """

    def __init__(
        self,
        accepted: Callable[[str, str], Paired],
        *,
        by_code: bool,
        phone: str,
        seconds: float,
        device: NewDevice = PLAIN_DEVICE,
    ) -> None:
        self.by_code = by_code
        self.phone = phone
        self.seconds = seconds
        self.device = device
        self.codes: list[PairingCode] = []
        """What was shown, the present one last."""
        self.over = False
        """It has ended: accepted, refused, timed out, or given up by the session."""
        self.passkey: bytes | None = None
        """What the session answered to `ask_passkey`."""
        self.confirmed = False
        """The session answered `compare`."""
        self.kept = False
        """The session said that what `accept` brought is stored."""
        self._accepted = accepted
        self._steps: asyncio.Queue[PairingStep | Exception | None] = asyncio.Queue()
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

    def ask_passkey(self, options: bytes) -> None:
        """Ask for the account's passkey."""
        self._steps.put_nowait(PasskeyRequest(options))

    def compare(self, code: str) -> None:
        """Let the person compare."""
        self._steps.put_nowait(PasskeyComparison(code))

    def accept(self, phone: str = "", push_name: str = "") -> DriverState:
        """Scan the QR code or type the letters; `phone` may be left out when the session named one."""
        paired = self._accepted(phone or self.phone, push_name)
        self._steps.put_nowait(paired)
        return paired.state

    def refuse(self, detail: str) -> None:
        """The network will not pair."""
        self._steps.put_nowait(PairingRefused(detail))

    def time_out(self) -> None:
        """Nobody accepted in time."""
        self._steps.put_nowait(None)

    def lose(self, detail: str = "the network closed the connection") -> None:
        """The connection breaks."""
        self._steps.put_nowait(ConnectionEnded(End.LOST, detail))

    # --- Pairing

    def __aiter__(self) -> MemoryPairing:
        return self

    async def __anext__(self) -> PairingStep:
        if self.over:
            raise StopAsyncIteration
        step = await self._steps.get()
        self.over = step is None or isinstance(step, Exception | Paired)
        if step is None:
            raise StopAsyncIteration
        if isinstance(step, Exception):
            raise step
        return step

    def answer_passkey(self, credential: bytes) -> None:
        self.passkey = credential

    def confirm_passkey(self) -> None:
        self.confirmed = True

    async def stored(self) -> None:
        self.kept = True

    async def aclose(self) -> None:
        self.over = True
