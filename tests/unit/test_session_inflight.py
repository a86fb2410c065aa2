"""What is with the network: acknowledged, refused, tried again, given up."""

from __future__ import annotations

from typing import Any

import pytest

from mesh_core.errors import FailedPrecondition
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import End, Failure
from mesh_session_node.journal import OutboundMessage
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.memory_host import SOMEBODY, OneAccount
from tests.support.memory_journal import Clock

FINAL = {
    Failure.UNKNOWN_RECIPIENT: pb.FAILURE_REASON_UNKNOWN_RECIPIENT,
    Failure.NOT_A_MEMBER: pb.FAILURE_REASON_NOT_A_MEMBER,
    Failure.BLOCKED: pb.FAILURE_REASON_BLOCKED,
    Failure.CONTENT: pb.FAILURE_REASON_CONTENT_REFUSED,
    Failure.RESTRICTED: pb.FAILURE_REASON_RESTRICTED,
    Failure.WINDOW_CLOSED: pb.FAILURE_REASON_WINDOW_CLOSED,
    Failure.TEMPLATE: pb.FAILURE_REASON_TEMPLATE,
    Failure.FREQUENCY_CAPPED: pb.FAILURE_REASON_FREQUENCY_CAPPED,
    Failure.PAYMENT: pb.FAILURE_REASON_PAYMENT,
    Failure.RECIPIENT_INCAPABLE: pb.FAILURE_REASON_RECIPIENT_INCAPABLE,
    Failure.OTHER: pb.FAILURE_REASON_REFUSED,
}


# Acknowledgements


async def test_an_acknowledged_message_is_sent(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id, at=1_700_000_000_000_000)
    [change] = account.changes(out)
    assert (change.status, change.time) == (pb.MESSAGE_STATUS_SENT, 1_700_000_000_000_000)
    assert change.event is not None
    assert change.event.type == "message.sent"
    assert (account.shown.counters.sent, account.shown.counters.queued) == (1, 0)


async def test_statuses_say_who_the_recipient_is_once_the_network_has(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    queued = account.stored(OutboundMessage)[0].event
    recipient = event_pb2.Event.FromString(queued.body).message_status.recipient
    assert recipient == Person(address=f"phone:{SOMEBODY}", phone=SOMEBODY)
    account.driver.link.ack(out.network_id, recipient=Identity(user_id="7", hidden_id="8"))
    [change] = account.changes(out)
    assert change.event is not None
    sent = event_pb2.Event.FromString(change.event.body).message_status
    assert sent.chat == f"phone:{SOMEBODY}"
    assert sent.recipient == Person(address=f"phone:{SOMEBODY}", phone=SOMEBODY, user_id="7", hidden_id="8")


async def test_a_second_acknowledgement_changes_nothing(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.ack(out.network_id)
    account.driver.link.ack(out.network_id)
    assert account.statuses(out) == [pb.MESSAGE_STATUS_SENT]
    assert account.shown.counters.sent == 1


async def test_answers_to_messages_that_nobody_sent_are_ignored(account: OneAccount) -> None:
    await account.connected()
    stored = len(account.journal.rows)
    account.driver.link.ack("3EB0")
    account.driver.link.reject("3EB0", Failure.OTHER)
    assert len(account.journal.rows) == stored
    assert account.shown.counters.sent == 0


async def test_who_waits_for_a_message_learns_that_the_network_has_it(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    waiter = account.session.sender.waiters.add(out.uuid)
    assert not waiter.done()
    account.driver.link.ack(out.network_id)
    assert waiter.done()
    assert waiter.result() is None


async def test_an_acknowledgement_lets_the_next_message_go(account: OneAccount, clock: Clock) -> None:
    account.limit(per_minute=1)
    await account.connected()
    first = await account.send("one")
    await account.send("two")
    await clock.skip(66)
    account.driver.link.ack(first.network_id)
    assert account.on_the_network == ["one", "two"]


# Refusals


@pytest.mark.parametrize("failure", FINAL, ids=lambda failure: failure.name)
async def test_a_refusal_for_good_fails_the_message(account: OneAccount, failure: Failure) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.reject(out.network_id, failure, "in the network's words", code=131_026)
    [change] = account.changes(out)
    assert (change.status, change.failure) == (pb.MESSAGE_STATUS_FAILED, FINAL[failure])
    assert (change.failure_detail, change.failure_code) == ("in the network's words", 131_026)
    assert change.event is not None
    told = event_pb2.Event.FromString(change.event.body).message_status
    assert (told.failure, told.failure_code) == (FINAL[failure], 131_026)
    assert change.event.type == "message.failed"
    assert (account.shown.counters.failed, account.shown.counters.queued) == (1, 0)
    assert account.on_the_network == ["hello"]


async def test_who_waits_for_a_message_learns_that_it_failed(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    waiter = account.session.sender.waiters.add(out.uuid)
    account.driver.link.reject(out.network_id, Failure.OTHER)
    assert waiter.done()
    assert waiter.result() is out


async def test_a_refused_message_does_not_hold_up_the_next(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("one")
    account.driver.link.reject(out.network_id, Failure.OTHER)
    await account.send("two")
    assert account.on_the_network == ["one", "two"]


async def test_over_the_networks_own_limit_everything_waits_as_long_as_it_says(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send("one")
    account.driver.link.reject(out.network_id, Failure.RATE_LIMITED, retry_after=30.0)
    await account.send("two")
    await clock.skip(29)
    assert account.on_the_network == ["one"]
    await clock.skip(2)
    assert account.on_the_network == ["one", "one", "two"]
    assert account.statuses(out) == []


async def test_a_refused_ratchet_position_is_skipped_and_the_message_sent_at_once(
    account: OneAccount,
) -> None:
    state = await account.connected()
    out = await account.send()
    account.driver.link.reject(out.network_id, Failure.RATCHET)
    assert state.left <= 0
    await account.journal.commit()  # the positions behind the skipped ones are stored first
    assert account.on_the_network == ["hello", "hello"]
    first, second = account.driver.link.positions
    assert second > first + 1000


async def test_a_file_that_the_network_forgot_is_uploaded_again(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.prepared(out, "ref 1")
    account.driver.link.reject(out.network_id, Failure.BLOB_GONE)
    await account.settle()
    await clock.skip(1.1)
    assert account.preparing == [out]
    await account.prepared(out, "ref 2")
    assert [list(message.blobs) for message in account.driver.link.sent] == [["ref 1"], ["ref 2"]]


async def test_a_message_is_given_up_after_fifty_attempts(account: OneAccount, clock: Clock) -> None:
    await account.connected()
    out = await account.send()
    tries = 0
    while not account.statuses(out):
        tries += 1
        assert len(account.driver.link.sent) == tries <= 50
        account.driver.link.reject(out.network_id, Failure.RATE_LIMITED)
        await clock.skip(1)
    [change] = account.changes(out)
    assert (change.status, change.failure) == (pb.MESSAGE_STATUS_FAILED, pb.FAILURE_REASON_RATE_LIMITED)


# The end of the pairing


@pytest.mark.parametrize("end", [End.LOGGED_OUT, End.BANNED])
async def test_the_end_of_the_pairing_fails_what_is_sent_and_what_waits(
    account: OneAccount, end: End
) -> None:
    account.limit(per_minute=1)
    await account.connected()
    sent, waiting = await account.send("one"), await account.send("two")
    account.driver.link.end(end, "by the network")
    for out in (sent, waiting):
        [change] = account.changes(out)
        assert (change.status, change.failure) == (
            pb.MESSAGE_STATUS_FAILED,
            pb.FAILURE_REASON_ACCOUNT_CLOSED,
        )
    assert account.shown.counters.queued == 0
    assert account.shown.counters.failed == 2


async def test_a_logout_fails_what_the_network_has_not_acknowledged(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.session.log_out()
    [change] = account.changes(out)
    assert (change.status, change.failure) == (
        pb.MESSAGE_STATUS_FAILED,
        pb.FAILURE_REASON_ACCOUNT_CLOSED,
    )
    assert account.shown.counters.queued == 0


# What cannot be handed over


class Unencodable:
    """Stands for a driver's `encode`, or a link's `send`, that fails for some messages."""

    def __init__(self, real: Any, error: Exception) -> None:
        self._real = real
        self._error = error

    def __call__(self, request: Any, *arguments: Any) -> Any:
        if b"bad" in getattr(request, "payload", b"") or "bad" in str(request):
            raise self._error
        return self._real(request, *arguments)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (
            FailedPrecondition("the network has no polls", "UNSUPPORTED_BY_NETWORK"),
            "the network has no polls",
        ),
        (ValueError("oops"), "the driver cannot send it"),
    ],
    ids=["unsupported", "unexpected"],
)
async def test_a_message_that_cannot_be_encoded_fails_and_takes_no_other_with_it(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str
) -> None:
    await account.connected()
    monkeypatch.setattr(account.driver, "encode", Unencodable(account.driver.encode, error))
    bad, good = account.accept("bad"), account.accept("good")
    await account.journal.commit()
    [change] = account.changes(bad)
    assert (change.status, change.failure) == (pb.MESSAGE_STATUS_FAILED, pb.FAILURE_REASON_CONTENT_REFUSED)
    assert change.failure_detail == detail
    assert account.statuses(good) == []
    assert account.on_the_network == ["good"]


async def test_a_waiting_message_that_cannot_be_encoded_fails_and_the_next_one_leaves(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    await account.connected()
    account.driver.link.end()
    bad = await account.send("bad")
    await account.send("good")
    monkeypatch.setattr(account.driver, "encode", Unencodable(account.driver.encode, ValueError()))
    account.session.connect()
    await account.dial()
    assert account.statuses(bad) == [pb.MESSAGE_STATUS_FAILED]
    assert account.on_the_network == ["good"]


async def test_a_message_that_the_link_does_not_take_fails(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    await account.connected()
    link = account.driver.link
    monkeypatch.setattr(link, "send", Unencodable(link.send, RuntimeError("no position left")))
    bad, good = account.accept("bad"), account.accept("good")
    await account.journal.commit()
    assert account.statuses(bad) == [pb.MESSAGE_STATUS_FAILED]
    link.ack(good.network_id)
    assert account.statuses(good) == [pb.MESSAGE_STATUS_SENT]
    assert account.shown.counters.queued == 0
