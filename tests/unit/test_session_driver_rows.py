"""A session whose driver keeps its state in rows: they are stored before what is made from them leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.context.driver_rows import DriverRows, seal_rows
from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.drivers.interface.state import RowChange, StateUnavailable
from mesh_session_node.drivers.memory.rows import RECEIVING, SENDING, RowsDriver, RowsState, first_rows
from mesh_session_node.journal import (
    REFUSED,
    AccountRecord,
    Credential,
    DriverRow,
    Duplicate,
    Event,
    ForgetDriverRows,
    InboundMessage,
    Poison,
    SessionSnapshot,
)
from sessionmesh.v1 import content_pb2, session_pb2
from sessionmesh.v1 import message_pb2 as pb
from tests.support.incoming import ADA, incoming
from tests.support.memory_host import SEALED, SOMEBODY, OneAccount

LATER = [RowChange("later", b"1")]


@pytest.fixture
async def account() -> AsyncIterator[OneAccount]:
    """Connected."""
    made = OneAccount(driver=RowsDriver())
    await connect(made)
    yield made
    await made.host.close()
    for link in made.driver.links:
        link.abort()


async def connect(account: OneAccount) -> None:
    state = cast("RowsState", account.load(session_pb2.SESSION_STATE_CONNECTED, positions=0))
    ref = account.session.context.ref
    account.journal.post(ref, *seal_rows(account.host, ref, first_rows(state.stored)))
    await account.dial()
    assert account.shown.state == session_pb2.SESSION_STATE_CONNECTED


def rows_of(account: OneAccount) -> DriverRows:
    rows = account.session.context.rows
    assert rows is not None
    return rows


def stored(account: OneAccount) -> dict[str, bytes]:
    rows = account.journal.driver_rows(account.session.context.ref)
    return {key: value.removeprefix(SEALED) for key, value in rows.items()}


# Out


async def test_a_message_leaves_once_its_rows_are_stored(account: OneAccount) -> None:
    await account.send("hello")
    await account.settle()
    assert account.on_the_network == []
    await account.journal.commit()
    assert account.on_the_network == ["hello"]
    assert stored(account)[SENDING + f"phone:{SOMEBODY}"] == b"1"


async def test_no_position_of_a_ratchet_is_stored_with_a_message(account: OneAccount) -> None:
    out = account.accept("hello")
    [row] = account.journal.waiting
    assert out.reservation is None
    assert getattr(row, "state", None) is None


async def test_a_message_whose_rows_are_refused_never_leaves_and_its_connection_ends(
    account: OneAccount,
) -> None:
    await account.send("hello")
    await account.settle()
    await account.journal.commit(REFUSED)
    assert account.on_the_network == []
    assert account.driver.link.ended is not None
    assert account.session.context.link is None
    assert account.shown.counters.queued == 1


async def test_a_database_that_takes_nothing_ends_the_connection(account: OneAccount) -> None:
    account.journal.full = True
    assert not await rows_of(account).write(LATER)
    await account.settle()
    assert account.driver.link.aborted
    assert account.shown.state == session_pb2.SESSION_STATE_BACKOFF


async def test_rows_cannot_be_read_while_the_database_is_away(account: OneAccount) -> None:
    account.messages.unavailable = True
    with pytest.raises(StateUnavailable):
        await rows_of(account).read(["device"])


async def test_an_ended_connection_neither_reads_nor_writes(account: OneAccount) -> None:
    rows = rows_of(account)
    account.session.disconnect()
    assert not await rows.write(LATER)
    assert account.journal.units == []
    with pytest.raises(StateUnavailable):
        await rows.read(["device"])


# In


async def test_a_message_its_event_and_its_rows_are_one_unit(account: OneAccount) -> None:
    account.driver.link.receive(incoming())
    await account.settle()
    [unit] = account.journal.units
    message = [row for row in unit if isinstance(row, InboundMessage)]
    assert [row.event is not None for row in message] == [True]
    assert [row.key for row in unit if isinstance(row, DriverRow)] == [RECEIVING + ADA]
    assert account.driver.link.acknowledged == []
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN1"]
    assert stored(account)[RECEIVING + ADA] == b"1"


async def test_a_repeat_is_acknowledged_and_its_rows_are_written_once(account: OneAccount) -> None:
    account.driver.link.receive(incoming())
    await account.settle()
    await account.journal.commit(Duplicate(new_uuid()))
    assert account.driver.link.acknowledged == ["IN1"]
    assert account.journal.units == []


async def test_rows_of_a_message_that_needs_no_storing_are_stored_before_it_is_acknowledged(
    account: OneAccount,
) -> None:
    unreadable = incoming(target=Reference("M0", ADA, ADA), edited=content_pb2.Content())
    account.driver.link.receive(unreadable)
    await account.settle()
    [unit] = account.journal.units
    assert [row.__class__ for row in unit] == [DriverRow]
    assert account.driver.link.acknowledged == []
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN1"]


async def test_rows_of_a_message_that_the_database_refuses_are_stored_with_what_stands_for_it(
    account: OneAccount,
) -> None:
    account.driver.link.receive(incoming())
    await account.settle()
    await account.journal.commit(Poison(ValueError("no")))
    [unit] = account.journal.units
    [message] = [row for row in unit if isinstance(row, InboundMessage)]
    assert pb.Message.FromString(message.content).content.HasField("unknown")
    assert [row.key for row in unit if isinstance(row, DriverRow)] == [RECEIVING + ADA]
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN1"]


async def test_what_is_written_behind_a_message_waits_until_it_is_stored(account: OneAccount) -> None:
    account.driver.link.receive(incoming())
    later = rows_of(account).write(LATER)
    await account.settle()
    assert len(account.journal.units) == 1
    await account.journal.commit()
    assert not later.done()
    await account.journal.commit()
    assert later.result()
    assert stored(account)["later"] == b"1"


async def test_nothing_is_stored_that_was_made_from_what_was_not(account: OneAccount) -> None:
    account.driver.link.receive(incoming())
    later = rows_of(account).write(LATER)
    account.driver.link.receive(incoming("and?", network_id="IN2"))
    await account.settle()
    await account.journal.commit(REFUSED)
    assert not later.result()
    assert account.journal.units == []
    assert "later" not in stored(account)
    assert account.driver.link.aborted


async def test_a_message_waits_for_the_one_before_whatever_its_chat(account: OneAccount) -> None:
    account.driver.link.receive(incoming())
    account.driver.link.receive(incoming(network_id="IN2", chat="group:1"))
    await account.settle()
    assert len(account.journal.units) == 1
    await account.journal.commit()
    await account.journal.commit()
    assert account.driver.link.acknowledged == ["IN1", "IN2"]


async def test_a_message_of_the_past_has_no_event(account: OneAccount) -> None:
    account.driver.link.receive(incoming(history=True))
    await account.settle()
    [message] = [row for row in account.journal.waiting if isinstance(row, InboundMessage)]
    assert message.event is None
    assert pb.Message.FromString(message.content).from_history
    await account.journal.commit()
    assert account.shown.counters.received == 0


# Pairing


async def test_rows_of_a_new_pairing_are_stored_with_it_and_none_of_another_one() -> None:
    account = OneAccount(driver=RowsDriver())
    paired = account.driver._accepted("+4915100000001", "Shop")
    account.session.pairing_begun()
    row, rows = account.session.pairing_rows(paired)
    assert [one.__class__ for one in rows] == [
        Credential,
        AccountRecord,
        ForgetDriverRows,
        DriverRow,
        SessionSnapshot,
        Event,
    ]
    assert row.paired


async def test_rows_go_with_the_pairing(account: OneAccount) -> None:
    rows = rows_of(account)
    account.session.log_out()
    assert stored(account) == {}
    assert not await rows.write(LATER)
    assert stored(account) == {}
