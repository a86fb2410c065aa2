"""The network in memory with a library's kind of state: rows that change with every message.

Each chat has a chain, whose next position is in a row. A message leaves once the position behind its own is
stored, and an incoming one brings the change of its chain along: what other drivers leave to a library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from dataclasses import replace

from mesh_session_node.drivers.interface.content import Incoming, OutgoingMessage
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.interface.pairing import Paired
from mesh_session_node.drivers.interface.state import RowChange, StateRows, StateUnavailable
from mesh_session_node.drivers.memory.channel_actions import MemoryChannel
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.link import MemoryLink
from mesh_session_node.drivers.memory.state import MemoryState, StoredState

DEVICE = "device"
"""The row that a pairing begins with: the user's id, without which there is no login."""
SENDING, RECEIVING = "sending/", "receiving/"
"""How the keys of chains begin; a chat's address follows. Their values are decimal numbers."""


class RowsState(MemoryState):
    """A `DriverState` without a ratchet: its chains are rows."""

    @property
    def ratchet(self) -> None:  # type: ignore[override]
        return None


class RowsLink(MemoryLink):
    """`positions` are those of the chats' chains."""

    def __init__(
        self,
        state: MemoryState,
        rows: StateRows,
        events: LinkEvents,
        blobs: MutableMapping[str, bytes],
        users: Mapping[str, str],
        channels: dict[str, MemoryChannel],
    ) -> None:
        super().__init__(state, events, blobs, users, channels)
        self._permitted = events.permitted
        self._rows = rows
        self._received: dict[str, int] = {}
        self._waiting: asyncio.Queue[OutgoingMessage] = asyncio.Queue()
        self._sending = asyncio.create_task(self._send_in_order(), name=f"messages of {state.user_id}")

    async def read_device(self) -> None:
        """Before the login. Raises `ConnectionEnded`."""
        try:
            rows = await self._rows.read([DEVICE])
        except StateUnavailable as error:
            raise ConnectionEnded(End.LOST, str(error)) from error
        if rows.get(DEVICE) != self.state.user_id.encode():
            raise ConnectionEnded(End.STATE_UNUSABLE, "the device's row is not there, or another device's")

    def send(self, message: OutgoingMessage) -> None:
        if self.ended is None:
            self._waiting.put_nowait(message)

    def receive(self, message: Incoming) -> None:
        position = self._received.get(message.chat, 0) + 1
        self._received[message.chat] = position
        change = RowChange(RECEIVING + message.chat, str(position).encode())
        super().receive(replace(message, changes=[*message.changes, change]))

    def end(self, end: End = End.LOST, detail: str = "", retry_after: float = 0.0) -> None:
        self._sending.cancel()
        super().end(end, detail, retry_after)

    def abort(self) -> None:
        self._sending.cancel()
        super().abort()

    async def _send_in_order(self) -> None:
        while True:
            message = await self._waiting.get()
            key = SENDING + message.to
            try:
                rows = await self._rows.read([key])
            except StateUnavailable as error:
                self.end(End.LOST, str(error))
                return
            position = int(rows.get(key, b"0"))
            stored = await self._rows.write([RowChange(key, str(position + 1).encode())])
            if not stored or not self._permitted():
                self.end(End.LOST, "the state cannot be stored")
                return
            self.positions.append(position)
            self.handed_over(message)


class RowsDriver(MemoryDriver):
    """Its links are `RowsLink`s."""

    name = "memory_rows"

    def pair_at_once(self, phone: str, push_name: str = "") -> RowsState:
        return RowsState(super().pair_at_once(phone, push_name).stored, self._block)

    def load(self, state: bytes) -> RowsState:
        return RowsState(super().load(state).stored, self._block)

    def _accepted(self, phone: str, push_name: str) -> Paired:
        state = self.pair_at_once(phone, push_name)
        return Paired(state, first_rows(state.stored))

    async def _link(self, state: MemoryState, rows: StateRows, events: LinkEvents) -> RowsLink:
        link = RowsLink(state, rows, events, self.blobs, self.users, self.channels)
        try:
            await link.read_device()
        except BaseException:  # also when cancelled: nobody else would close it
            link.abort()
            raise
        return link


def first_rows(stored: StoredState) -> list[RowChange]:
    """What a pairing begins with."""
    return [RowChange(DEVICE, stored.user_id.encode())]
