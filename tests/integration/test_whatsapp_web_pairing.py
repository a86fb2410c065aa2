"""Pairing a linked device through the sidecar: what is shown, what is kept, and when the network is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, PairingRefused
from mesh_session_node.drivers.interface.pairing import (
    Paired,
    PairingCode,
    PasskeyComparison,
    PasskeyRequest,
)
from mesh_session_node.drivers.interface.state import RowChange
from mesh_session_node.drivers.whatsapp_web.pairing import WebPairing
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from tests.support import fake_sidecar
from tests.support.eventually import eventually
from tests.support.sidecar_world import InProcess, SidecarWorld, sidecar_world


class Attempt:
    """A pairing that shows its first code. `has_said` is what the sidecar says of it next."""

    def __init__(self, world: SidecarWorld, pairing: WebPairing) -> None:
        self.pairing = pairing
        self._world = world

    async def has_said(self, **response: Any) -> None:
        speaker = await self._world.account("speaker")
        said = pb.RunResponse(connection=self.told("pair")[-1].connection, **response)
        speaker.has_said_bytes(said.SerializeToString())

    def told(self, kind: str) -> list[pb.RunRequest]:
        return self._world.told(kind)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SidecarWorld]:
    async with sidecar_world(tmp_path, monkeypatch, process=InProcess) as world:
        yield world


@pytest.fixture
async def attempt(world: SidecarWorld) -> AsyncIterator[Attempt]:
    pairing = pair(world)
    await shows_code(pairing)
    yield Attempt(world, pairing)
    await pairing.aclose()


def pair(world: SidecarWorld, *, by_code: bool = False, seconds: float = 60.0) -> WebPairing:
    return world.driver.pair(account_id="acc_1", by_code=by_code, phone="+4915", seconds=seconds)


async def shows_code(pairing: WebPairing) -> None:
    step = await anext(pairing)
    assert isinstance(step, PairingCode)
    assert step.qr == fake_sidecar.CODE


@pytest.mark.parametrize(("by_code", "phone"), [(True, "+4915"), (False, "")], ids=["code", "qr"])
async def test_a_code_is_asked_for_with_the_number_and_a_qr_without(
    world: SidecarWorld, by_code: bool, phone: str
) -> None:
    pairing = pair(world, by_code=by_code)
    await anext(pairing)
    (told,) = world.told("pair")
    await pairing.aclose()
    assert (told.pair.account_id, told.pair.phone) == ("acc_1", phone)
    assert not told.pair.device_name  # else it were not called what the sidecar was told


async def test_what_a_device_is_made_of_comes_with_its_acceptance_all_at_once(attempt: Attempt) -> None:
    await attempt.has_said(write_rows=writes(1, a=b"1", b=b"1"))
    await attempt.has_said(write_rows=writes(2, a=b"2", b=None, c=b"3"))
    await attempt.has_said(paired=pb.DevicePaired(identity=pb.DeviceIdentity(phone="+4915", user_id="4915")))
    step = await anext(attempt.pairing)
    assert isinstance(step, Paired)
    assert (step.state.phone, step.state.user_id, step.state.ratchet) == ("+4915", "4915", None)
    assert step.rows == [RowChange("a", b"2"), RowChange("c", b"3")]


async def test_the_network_is_told_of_a_device_only_once_it_is_stored(attempt: Attempt) -> None:
    await attempt.has_said(write_rows=writes(1, a=b"1"))
    await attempt.has_said(paired=pb.DevicePaired())
    await anext(attempt.pairing)
    await attempt.has_said(heard=pb.NetworkHeard())
    assert attempt.told("rows_settled") == []
    stored = asyncio.create_task(attempt.pairing.stored())
    (settled,) = await eventually(lambda: attempt.told("rows_settled"))
    assert (settled.rows_settled.sequence, settled.rows_settled.stored) == (1, True)
    await attempt.has_said(ended=pb.DeviceEnded())
    await stored


async def test_an_attempt_that_is_given_up_settles_nothing_and_is_closed(attempt: Attempt) -> None:
    await attempt.has_said(write_rows=writes(1, a=b"1"))
    await attempt.pairing.aclose()
    assert attempt.told("rows_settled") == []
    assert attempt.told("close")


async def test_the_device_reads_what_it_wrote(attempt: Attempt) -> None:
    await attempt.has_said(write_rows=writes(1, **{"a": b"1", "p/1": b"2"}))
    await attempt.has_said(read_rows=pb.ReadRows(sequence=4, keys=["a", "x"], prefixes=["p/"]))
    (answer,) = await eventually(lambda: attempt.told("rows_read"))
    assert {row.key: row.value for row in answer.rows_read.rows} == {"a": b"1", "p/1": b"2"}


async def test_a_passkey_is_asked_for_and_answered_and_compared(attempt: Attempt) -> None:
    await attempt.has_said(passkey_request=pb.PasskeyRequest(options=b"{}"))
    assert await anext(attempt.pairing) == PasskeyRequest(b"{}")
    attempt.pairing.answer_passkey(b'{"id": 1}')
    (answer,) = await eventually(lambda: attempt.told("passkey_answer"))
    assert answer.passkey_answer.credential == b'{"id": 1}'
    await attempt.has_said(passkey_comparison=pb.PasskeyComparison(code="1234"))
    assert await anext(attempt.pairing) == PasskeyComparison("1234")
    attempt.pairing.confirm_passkey()
    await eventually(lambda: attempt.told("passkey_confirmation"))


async def test_an_attempt_that_nobody_accepts_ends_without_a_device_when_its_time_is_over(
    world: SidecarWorld,
) -> None:
    pairing = pair(world, seconds=0.0)
    await shows_code(pairing)
    (told,) = world.told("pair")
    assert told.pair.timeout.ToMicroseconds() == 0
    await Attempt(world, pairing).has_said(ended=pb.DeviceEnded(end=pb.DEVICE_END_TIMED_OUT))
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(pairing)


async def test_when_the_codes_are_over_before_the_attempt_is_another_device_shows_others(
    attempt: Attempt,
) -> None:
    await attempt.has_said(write_rows=writes(1, a=b"of the first"))
    await attempt.has_said(ended=pb.DeviceEnded(end=pb.DEVICE_END_TIMED_OUT))
    await shows_code(attempt.pairing)
    first, second = attempt.told("pair")
    assert first.connection in [closed.connection for closed in attempt.told("close")]
    assert second.pair.timeout.ToMicroseconds() < first.pair.timeout.ToMicroseconds()
    await attempt.has_said(write_rows=writes(1, b=b"of the second"))
    await attempt.has_said(paired=pb.DevicePaired())
    step = await anext(attempt.pairing)
    assert isinstance(step, Paired)
    assert step.rows == [RowChange("b", b"of the second")]


@pytest.mark.parametrize(
    ("end", "raised"),
    [(pb.DEVICE_END_PAIRING_REFUSED, PairingRefused), (pb.DEVICE_END_LOST, ConnectionEnded)],
)
async def test_an_attempt_that_fails_says_why(
    attempt: Attempt, end: pb.DeviceEnd.ValueType, raised: type[Exception]
) -> None:
    await attempt.has_said(ended=pb.DeviceEnded(end=end, detail="because"))
    with pytest.raises(raised, match="because"):
        await anext(attempt.pairing)


async def test_a_device_of_too_many_rows_is_given_up(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_session_node.drivers.whatsapp_web.pairing.MAX_ROWS", 1)
    await attempt.has_said(write_rows=writes(1, a=b"1", b=b"2"))
    with pytest.raises(ConnectionEnded):
        await anext(attempt.pairing)


def writes(sequence: int, **rows: bytes | None) -> pb.WriteRows:
    changes = [pb.StateRowChange(key=key, value=value) for key, value in rows.items()]
    return pb.WriteRows(sequence=sequence, changes=changes)


async def test_steps_that_nobody_looks_at_end_the_attempt_alone(
    world: SidecarWorld, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_session_node.drivers.whatsapp_web.pairing.MAX_STEPS", 2)
    other = await world.account("acc_2")
    for _ in range(3):
        await attempt.has_said(passkey_comparison=pb.PasskeyComparison(code="1234"))
    await eventually(lambda: attempt.told("close"))
    await other.link.check_numbers(["+4916"])
    assert [type(await anext(attempt.pairing)) for _ in range(2)] == [PasskeyComparison] * 2
    with pytest.raises(ConnectionEnded):
        await anext(attempt.pairing)
