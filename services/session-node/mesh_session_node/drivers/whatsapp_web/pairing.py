"""Pairing a linked device: the steps that the network asks for. What the new device is made of is kept here
until somebody accepts, and then stored all at once. When the network's codes are over before the attempt is,
another device shows others.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, PairingRefused
from mesh_session_node.drivers.interface.pairing import (
    Paired,
    PairingCode,
    PairingStep,
    PasskeyComparison,
    PasskeyRequest,
)
from mesh_session_node.drivers.interface.state import MAX_ROWS, RowChange
from mesh_session_node.drivers.whatsapp_web.connection import Connection, changes_of
from mesh_session_node.drivers.whatsapp_web.encoding import ended_of, seconds
from mesh_session_node.drivers.whatsapp_web.sidecar import Sidecar
from mesh_session_node.drivers.whatsapp_web.state import state_of
from sessionmesh.internal.v1 import linked_device_pb2 as pb

MAX_BYTES = 64 * 1024 * 1024
"""Of the rows of a device that is being paired."""
MAX_STEPS = 64
"""That may wait to be shown."""
FINISH_SECONDS = 10.0
"""How long the network may take to end the pairing connection once the device is stored."""


class WebPairing:
    """Implements `Pairing`."""

    def __init__(self, sidecar: Sidecar, request: pb.PairDevice, seconds: float) -> None:
        self._sidecar = sidecar
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._connection: Connection | None = None
        self._steps: asyncio.Queue[PairingStep | Exception | None] = asyncio.Queue()
        self._rows: dict[str, bytes] = {}
        self._bytes = 0
        self._over = False
        self._unsettled: list[int] = []

    def __aiter__(self) -> WebPairing:
        return self

    async def __anext__(self) -> PairingStep:
        if self._over:
            raise StopAsyncIteration
        if self._connection is None:
            await self._begin()
        while (step := await self._steps.get()) is None:
            if self._loop.time() >= self._deadline:
                self._over = True
                raise StopAsyncIteration
            await self._let_go()
            await self._begin()
        if isinstance(step, Exception):
            raise step
        self._over = isinstance(step, Paired)
        return step

    async def _begin(self) -> None:
        """Have a new device show its codes."""
        stream = await self._sidecar.stream()
        left = max(0.0, self._deadline - self._loop.time())
        self._request.timeout.FromTimedelta(timedelta(seconds=left))
        self._steps = asyncio.Queue()
        self._rows.clear()
        self._unsettled.clear()
        self._bytes = 0
        self._connection = Connection(stream, self)
        self._connection.ask(pb.RunRequest(pair=self._request))

    def answer_passkey(self, credential: bytes) -> None:
        self._ask(pb.RunRequest(passkey_answer=pb.PasskeyAnswer(credential=credential)))

    def confirm_passkey(self) -> None:
        self._ask(pb.RunRequest(passkey_confirmation=pb.PasskeyConfirmation()))

    async def stored(self) -> None:
        """The device confirms to the network that it is linked, which then ends the connection."""
        for sequence in self._unsettled:
            self._ask(pb.RunRequest(rows_settled=pb.RowsSettled(sequence=sequence, stored=True)))
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._steps.get()
        except TimeoutError:
            return

    async def aclose(self) -> None:
        self._over = True
        await self._let_go()

    # --- Listener

    def on_response(self, kind: str, response: pb.RunResponse) -> None:
        if kind == "pairing_code":
            code = response.pairing_code
            expire_time = time.time_ns() // 1000 + int(seconds(code.lifetime) * 1e6)
            self._next(PairingCode(code.qr, code.letters, expire_time))
        elif kind == "passkey_request":
            self._next(PasskeyRequest(response.passkey_request.options))
        elif kind == "passkey_comparison":
            self._next(PasskeyComparison(response.passkey_comparison.code))
        elif kind == "write_rows":
            self._keep(response.write_rows)
        elif kind == "read_rows":
            self._show(response.read_rows)
        elif kind == "paired":
            rows = [RowChange(key, value) for key, value in self._rows.items()]
            self._steps.put_nowait(Paired(state_of(response.paired.identity), rows))
        elif kind == "ended":
            self._on_ended(response.ended)

    def on_gone(self, end: End, detail: str) -> None:
        self._steps.put_nowait(ConnectionEnded(End.LOST, detail))

    async def _let_go(self) -> None:
        """Nothing comes of the present device any more."""
        if self._connection is not None:
            self._connection.close()
            await self._connection.closed()

    def _next(self, step: PairingStep) -> None:
        if self._steps.qsize() >= MAX_STEPS:
            raise ValueError("nobody looks at the steps of the pairing")
        self._steps.put_nowait(step)

    def _ask(self, request: pb.RunRequest) -> None:
        if self._connection is not None:
            self._connection.ask(request)

    def _keep(self, write: pb.WriteRows) -> None:
        for change in changes_of(write.changes):
            self._bytes -= len(self._rows.pop(change.key, b""))
            if change.value is not None:
                self._rows[change.key] = change.value
                self._bytes += len(change.value)
        if len(self._rows) > MAX_ROWS or self._bytes > MAX_BYTES:
            raise ValueError("a new device has too many rows")
        self._unsettled.append(write.sequence)

    def _show(self, read: pb.ReadRows) -> None:
        found = {key: self._rows[key] for key in read.keys if key in self._rows}
        begun = tuple(read.prefixes)
        found |= {key: value for key, value in self._rows.items() if key.startswith(begun)}
        rows = [pb.StateRow(key=key, value=value) for key, value in found.items()]
        self._ask(pb.RunRequest(rows_read=pb.RowsRead(sequence=read.sequence, rows=rows)))

    def _on_ended(self, ended: pb.DeviceEnded) -> None:
        if ended.end == pb.DEVICE_END_TIMED_OUT:
            self._steps.put_nowait(None)
        elif ended.end == pb.DEVICE_END_PAIRING_REFUSED:
            self._steps.put_nowait(PairingRefused(ended.detail))
        else:
            self._steps.put_nowait(ended_of(ended))
