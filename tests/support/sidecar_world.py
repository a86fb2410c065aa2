"""A driver whatsapp_web with a sidecar that stands in for the real one, and accounts on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh_session_node.drivers.interface.content import OutgoingMessage
from mesh_session_node.drivers.interface.state import RowChange, StateUnavailable
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from mesh_session_node.drivers.whatsapp_web.link import WebLink
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_session_node.drivers.whatsapp_web.state import StoredState, WebState
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from tests.support import fake_sidecar
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents

PATIENT_SECONDS = 60.0
"""For what must not be seen as hanging on a busy machine."""


class HeldRows:
    """Implements `StateRows`: a write is stored when the test says so."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.rows: dict[str, bytes] = {}
        self.writes: list[tuple[Sequence[RowChange], asyncio.Future[bool]]] = []
        self.unavailable = False

    async def read(self, keys: Collection[str] = (), prefixes: Collection[str] = ()) -> Mapping[str, bytes]:
        if self.unavailable:
            raise StateUnavailable("no database")
        return {
            key: value for key, value in self.rows.items() if key in keys or key.startswith(tuple(prefixes))
        }

    def write(self, changes: Sequence[RowChange]) -> asyncio.Future[bool]:
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.writes.append((changes, stored))
        return stored


class Account:
    """One linked device, connected."""

    def __init__(self, world: SidecarWorld, name: str) -> None:
        self.rows = HeldRows(name)
        self.events = RecordedEvents()
        self.link: WebLink
        self._world = world

    async def connect(self) -> WebLink:
        state = WebState(StoredState("4915", "+4915", "", ""))
        self.link = await self._world.driver.connect(state, self.rows, self.events)
        return self.link

    @property
    def number(self) -> int:
        """Of its connection."""
        account = self.rows.account_id
        opened = [one.connection for one in self._world.told("open") if one.open.account_id == account]
        return opened[-1]

    def has_said(self, **response: Any) -> None:
        """Have the sidecar say this of the account's connection."""
        said = pb.RunResponse(connection=self.number, **response)
        self.has_said_bytes(said.SerializeToString())

    def has_said_bytes(self, said: bytes) -> None:
        self.link.send(OutgoingMessage("say", fake_sidecar.SAY, said))

    def told(self, kind: str) -> list[pb.RunRequest]:
        """What the sidecar was told of the present connection."""
        number = self.number
        return [request for request in self._world.told(kind) if request.connection == number]


class SidecarWorld:
    """`heard` is the file of what sidecars were told."""

    def __init__(self, settings: WhatsappWebSettings, heard: Path) -> None:
        self.driver = WhatsappWebDriver(settings)
        self._heard = heard

    def told(self, kind: str) -> list[pb.RunRequest]:
        """What sidecars were told, of one kind."""
        return [one for one in fake_sidecar.requests_of(self._heard) if one.WhichOneof("request") == kind]

    async def account(self, name: str = "acc_1") -> Account:
        account = Account(self, name)
        await account.connect()
        await eventually(lambda: [one for one in self.told("open") if one.open.account_id == name])
        return account


class InProcess:
    """Takes the place of `Process` where the test is not about that: the sidecar is of this process."""

    pid = 0

    def __init__(self, fake: fake_sidecar.FakeSidecar) -> None:
        self._fake = fake

    @classmethod
    async def start(cls, _program: str, stdin: socket.socket) -> InProcess:
        return cls(await fake_sidecar.FakeSidecar.speak(stdin.dup()))

    async def ended(self) -> str:
        await asyncio.shield(self._fake.ended)
        return "it ended"

    async def stop(self) -> None:
        await self.kill()

    async def kill(self) -> None:
        self._fake.close()
        await asyncio.shield(self._fake.ended)


@asynccontextmanager
async def sidecar_world(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    protocol: int = 1,
    version: str = "1",
    process: type[InProcess] | None = None,
    **settings: Any,
) -> AsyncIterator[SidecarWorld]:
    """`protocol` is what the sidecar speaks; 0: nothing. `version` is what it says of that where it is only
    asked for it; "mute": nothing. `process` stands in for its process.
    """
    if process is not None:
        monkeypatch.setattr("mesh_session_node.drivers.whatsapp_web.sidecar.Process", process)
    heard = folder / "heard"
    monkeypatch.setenv(fake_sidecar.HEARD, str(heard))
    monkeypatch.setenv(fake_sidecar.SPEAKS, str(protocol))
    monkeypatch.setenv(fake_sidecar.VERSION, version)
    given: dict[str, Any] = {
        "sidecar": str(fake_sidecar.install(folder)),
        "start_seconds": PATIENT_SECONDS,
        "hang_seconds": PATIENT_SECONDS,
        "login_seconds": PATIENT_SECONDS,
    }
    world = SidecarWorld(WhatsappWebSettings(**(given | settings)), heard)
    running = asyncio.create_task(world.driver.sidecar.run(), name="sidecar")
    try:
        yield world
    finally:
        running.cancel()
        await asyncio.wait([running])
