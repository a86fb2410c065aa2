"""Pairing: one attempt of an account at a time, which every caller shares, so many at once on the node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from google.protobuf.duration_pb2 import Duration

from mesh_core.errors import (
    FailedPrecondition,
    GoingAway,
    InvalidField,
    MeshError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from mesh_core.ids import Prefix, new_id, new_uuid
from mesh_session_node.account.pairing import UNWATCHED_SECONDS, Attempt, Pairings
from mesh_session_node.account.pairing_steps import code_step
from mesh_session_node.calls.sessions.session_service import SessionService
from mesh_session_node.context.context import SessionSettings
from mesh_session_node.drivers.interface.pairing import PairingCode, PairingStep, PlainPairing
from mesh_session_node.journal import REFUSED, AccountRecord, Credential, Event, SessionSnapshot
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import session_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.at_once import AtOnce
from tests.support.eventually import eventually
from tests.support.memory_host import PHONE, SEALED, OneAccount, account_row
from tests.support.memory_journal import Clock

INTERVAL = SessionSettings().pairing_interval_seconds


class Caller:
    """One Pair stream: the steps that it was shown, and how it ended."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.steps: list[pb.PairResponse] = []
        self.error: MeshError | None = None
        self._task = asyncio.create_task(self._follow())

    @property
    def ended(self) -> bool:
        return self._task.done()

    @property
    def kinds(self) -> list[str | None]:
        return [step.WhichOneof("step") for step in self.steps]

    def leave(self) -> None:
        self._task.cancel()

    async def _follow(self) -> None:
        try:
            async for step in self.attempt.follow():
                self.steps.append(step)
        except MeshError as error:
            self.error = error


class Pairing:
    """The node's pairings, and callers of Pair."""

    def __init__(self, settings: SessionSettings) -> None:
        self.drawing = AtOnce()
        self.pairings = Pairings(settings, self.drawing)
        self._callers: list[Caller] = []

    async def begin(self, account: OneAccount, timeout: float = 180.0, **request: Any) -> Caller:
        """Somebody calls Pair."""
        attempt = self.pairings.begin(account.session, pb.PairRequest(**request), timeout)
        self._callers.append(Caller(attempt))
        await account.settle()
        return self._callers[-1]

    async def call(self, account: OneAccount, **fields: Any) -> pb.PairResponse:
        """The first step of a call of Pair."""
        request = pb.PairRequest(**{"account_id": account.session.id, "request_id": "1"} | fields)
        return await anext(self._service(account).Pair(request, MagicMock()))

    async def answer(self, account: OneAccount, **fields: Any) -> None:
        """A call of AnswerPairing."""
        request = pb.AnswerPairingRequest(account_id=account.session.id, **fields)
        await self._service(account).AnswerPairing(request, MagicMock())

    def _service(self, account: OneAccount) -> SessionService:
        found = AsyncMock(return_value=account.session)
        calls = MagicMock(session=found, session_for_stream=found)
        return SessionService(calls, self.pairings, MagicMock(), MagicMock())

    def close(self) -> None:
        for caller in self._callers:
            caller.leave()


@pytest.fixture
async def pairing() -> AsyncIterator[Pairing]:
    made = Pairing(SessionSettings())
    yield made
    made.close()


@pytest.fixture
async def others() -> AsyncIterator[list[OneAccount]]:
    """Three more accounts of the node."""
    made = [OneAccount() for _ in range(3)]
    yield made
    for account in made:
        await account.host.close()


# Codes


async def test_pictures_are_drawn_where_they_keep_nobodys_calls_waiting(
    account: OneAccount, pairing: Pairing
) -> None:
    await pairing.begin(account)
    assert pairing.drawing.done == [code_step]


async def test_a_qr_code_is_shown_as_text_picture_and_characters(
    account: OneAccount, pairing: Pairing
) -> None:
    caller = await pairing.begin(account)
    [step] = caller.steps
    assert step.attempt_id == caller.attempt.id
    assert step.qr.text == account.driver.pairing.codes[0].qr
    assert step.qr.png.startswith(b"\x89PNG")
    assert "█" in step.qr.terminal
    assert step.qr.expire_time.ToMicroseconds() == account.driver.pairing.codes[0].expire_time
    assert account.shown.state == pb.SESSION_STATE_PAIRING


async def test_letters_are_shown_for_the_phone_that_is_named(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account, method=pb.PAIR_METHOD_CODE, phone="+4917000000")
    [step] = caller.steps
    assert step.code.code == account.driver.pairing.codes[0].letters
    assert (account.driver.pairing.by_code, account.driver.pairing.phone) == (True, "+4917000000")


async def test_the_accounts_own_phone_is_the_one_to_pair(account: OneAccount, pairing: Pairing) -> None:
    await pairing.begin(account)
    assert account.driver.pairing.phone == PHONE


async def test_the_driver_is_told_how_long_the_attempt_lasts(account: OneAccount, pairing: Pairing) -> None:
    await pairing.begin(account, timeout=30.0)
    assert 0 < account.driver.pairing.seconds <= 30


async def test_each_new_code_takes_the_place_of_the_one_before(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.show()
    await account.settle()
    assert [step.qr.text for step in caller.steps] == [code.qr for code in account.driver.pairing.codes]


async def test_every_step_is_an_event_without_the_picture(account: OneAccount, pairing: Pairing) -> None:
    await pairing.begin(account)
    await account.journal.commit()
    [event] = [event for event in account.stored(Event) if event.type == "session.pairing"]
    step = event_pb2.Event.FromString(event.body).pairing.step
    assert step.qr.text
    assert (step.qr.png, step.qr.terminal) == (b"", "")


# Ends


async def test_an_accepted_pairing_is_stored_sealed_before_anybody_hears_of_it(
    account: OneAccount, pairing: Pairing
) -> None:
    caller = await pairing.begin(account)
    await account.journal.commit()
    state = account.driver.pairing.accept(PHONE, "Shop")
    await account.settle()
    assert Credential(SEALED + account.driver.dump(state)) in account.journal.waiting
    assert caller.kinds == ["qr"]
    assert not account.shown.paired
    await account.journal.commit()
    assert caller.kinds == ["qr", "paired"]
    assert caller.ended
    shown = caller.steps[-1].paired.session
    assert shown.paired
    assert shown.self == Person(
        address=f"phone:{PHONE}",
        phone=PHONE,
        user_id=state.user_id,
        hidden_id=state.hidden_id,
        display_name="Shop",
    )


async def test_a_new_pairing_connects(account: OneAccount, pairing: Pairing) -> None:
    await pairing.begin(account)
    account.driver.pairing.accept(PHONE)
    await account.settle()
    await account.journal.commit()
    assert (account.shown.state, account.shown.cause) == (
        pb.SESSION_STATE_CONNECTING,
        pb.SESSION_CAUSE_PAIRED,
    )
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


async def test_an_account_that_was_deleted_meanwhile_does_not_go_online(
    account: OneAccount, pairing: Pairing
) -> None:
    await pairing.begin(account)
    account.session.refresh(replace(account.account, deleted=True))
    account.driver.pairing.accept(PHONE)
    await account.settle()
    await account.journal.commit()
    assert account.shown.state == pb.SESSION_STATE_PAUSED


async def test_an_attempt_ends_with_its_account(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.session.refresh(replace(account.account, deleted=True))
    await account.settle()
    assert isinstance(caller.error, NotFound)
    await eventually(lambda: account.driver.pairing.over)


async def test_a_code_that_cannot_be_shown_ends_the_attempt(account: OneAccount, pairing: Pairing) -> None:
    async def codes() -> AsyncGenerator[PairingStep, None]:
        yield PairingCode("x" * 100_000, "", 1)

    network: Any = account.driver
    network.pair = lambda **_: PlainPairing(codes())
    caller = await pairing.begin(account)
    assert isinstance(caller.error, Unavailable)
    assert account.shown.state == pb.SESSION_STATE_NEW


async def test_a_pairing_is_stored_in_one_unit_with_the_session_that_it_makes(
    account: OneAccount, pairing: Pairing
) -> None:
    await pairing.begin(account)
    await account.journal.commit()
    account.driver.pairing.accept(PHONE, "Shop")
    await account.settle()
    [unit] = account.journal.units
    credential, groups, session, event = unit
    assert isinstance(credential, Credential)
    assert isinstance(groups, AccountRecord)
    assert groups.value is None, "the groups of an earlier pairing are to be listed anew"
    assert isinstance(session, SessionSnapshot)
    assert (session.state, session.cause) == (pb.SESSION_STATE_CONNECTING, pb.SESSION_CAUSE_PAIRED)
    assert (session.phone, session.push_name, session.paired) == (PHONE, "Shop", True)
    assert isinstance(event, Event)
    changed = event_pb2.Event.FromString(event.body).session
    assert changed.previous_state == pb.SESSION_STATE_PAIRING
    assert (changed.session.state, changed.session.self.phone) == (pb.SESSION_STATE_CONNECTING, PHONE)
    assert changed.session.paired


async def test_what_is_stored_of_a_new_pairing_is_what_is_shown_of_it(
    account: OneAccount, pairing: Pairing
) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.accept(PHONE, "Shop")
    await account.settle()
    await account.journal.commit()
    event = [event for event in account.stored(Event) if event.type == "session.state_changed"][-1]
    assert event_pb2.Event.FromString(event.body).session.session == caller.steps[-1].paired.session


async def test_nothing_undoes_a_pairing_that_is_being_stored(
    account: OneAccount, pairing: Pairing, clock: Clock
) -> None:
    caller = await pairing.begin(account, timeout=60.0)
    account.driver.pairing.accept(PHONE)
    await account.settle()
    account.session.context.counters.failed += 1
    account.tick()
    await clock.skip(61)
    await account.journal.commit()
    assert caller.kinds[-1] == "paired"
    assert account.stored(SessionSnapshot)[-1].paired


async def test_a_pairing_that_the_fence_refuses_is_none(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.accept(PHONE)
    await account.settle()
    await account.journal.commit(REFUSED)
    assert isinstance(caller.error, GoingAway)
    assert caller.error.resume_token == caller.attempt.id
    assert not account.shown.paired
    assert account.stored(Credential) == []


async def test_a_pairing_that_nobody_accepts_times_out(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.time_out()
    await account.settle()
    assert caller.kinds == ["qr", "timed_out"]
    assert caller.ended
    assert (account.shown.state, account.shown.cause) == (
        pb.SESSION_STATE_NEW,
        pb.SESSION_CAUSE_PAIRING_TIMED_OUT,
    )


async def test_a_pairing_ends_when_its_callers_time_is_over(
    account: OneAccount, pairing: Pairing, clock: Clock
) -> None:
    caller = await pairing.begin(account, timeout=60.0)
    await clock.skip(61)
    assert caller.kinds == ["qr", "timed_out"]
    assert account.driver.pairing.over


async def test_a_network_that_refuses_is_quoted(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.refuse("the number is banned")
    await account.settle()
    assert caller.steps[-1].refused.detail == "the number is banned"
    assert account.shown.state == pb.SESSION_STATE_NEW
    assert account.shown.detail == "the number is banned"


async def test_another_number_than_the_accounts_is_refused(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)

    account.driver.pairing.accept("+4917000001")
    await account.settle()

    assert f"expected to be {PHONE}" in caller.steps[-1].refused.detail
    assert not account.session.paired


async def test_a_network_that_is_away_is_unavailable_and_the_attempt_does_not_count(
    account: OneAccount, pairing: Pairing
) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.lose("reset by peer")
    await account.settle()
    assert isinstance(caller.error, Unavailable)
    assert caller.error.retry_after
    assert account.shown.state == pb.SESSION_STATE_NEW
    again = await pairing.begin(account)
    assert again.kinds == ["qr"]


# One at a time


async def test_a_second_caller_watches_the_running_attempt(account: OneAccount, pairing: Pairing) -> None:
    first = await pairing.begin(account)
    second = await pairing.begin(account)
    assert second.attempt is first.attempt
    assert len(account.driver.pairings) == 1
    account.driver.pairing.show()
    await account.settle()
    assert second.steps == first.steps


async def test_who_asks_for_another_method_is_not_shown_the_running_one(
    account: OneAccount, pairing: Pairing
) -> None:
    caller = await pairing.begin(account)

    with pytest.raises(FailedPrecondition) as refused:
        await pairing.begin(account, method=pb.PAIR_METHOD_CODE, phone="+4917000000")

    assert refused.value.reason == "PAIRING_IN_PROGRESS"
    again = await pairing.begin(
        account, method=pb.PAIR_METHOD_CODE, phone="+4917000000", attempt_id=caller.attempt.id
    )
    assert again.attempt is caller.attempt


async def test_a_code_for_one_phone_is_not_shown_to_who_asks_for_another(
    account: OneAccount, pairing: Pairing
) -> None:
    await pairing.begin(account, method=pb.PAIR_METHOD_CODE, phone="+4917000000")

    with pytest.raises(FailedPrecondition) as refused:
        await pairing.begin(account, method=pb.PAIR_METHOD_CODE, phone="+4917000001")

    assert refused.value.reason == "PAIRING_IN_PROGRESS"


async def test_a_caller_who_leaves_does_not_end_the_attempt(account: OneAccount, pairing: Pairing) -> None:
    first = await pairing.begin(account)
    first.leave()
    await account.settle()
    assert not account.driver.pairing.over
    second = await pairing.begin(account)
    assert second.attempt is first.attempt


async def test_who_comes_back_with_the_attempts_id_learns_how_it_ended(
    account: OneAccount, pairing: Pairing
) -> None:
    first = await pairing.begin(account)
    account.driver.pairing.time_out()
    await account.settle()
    again = await pairing.begin(account, attempt_id=first.attempt.id)
    assert again.kinds == ["timed_out"]
    assert again.ended


async def test_an_attempt_goes_on_under_its_id_at_the_next_owner(
    account: OneAccount, pairing: Pairing
) -> None:
    first = await pairing.begin(account)
    pairing.pairings.forget(account.session)
    await account.settle()
    next_owner = Pairing(account.host.settings)
    again = await next_owner.begin(account, attempt_id=first.attempt.id)
    assert again.attempt is not first.attempt
    assert (again.attempt.id, again.kinds) == (first.attempt.id, ["qr"])


async def test_the_id_of_another_accounts_attempt_begins_nothing(
    account: OneAccount, pairing: Pairing
) -> None:
    stranger = await pairing.begin(OneAccount())
    with pytest.raises(NotFound):
        await pairing.begin(account, attempt_id=stranger.attempt.id)
    with pytest.raises(NotFound):
        await pairing.begin(account, attempt_id=new_id(Prefix.PAIRING))
    assert (await pairing.begin(account)).attempt.id != stranger.attempt.id


async def test_an_account_that_nobody_paired_waits_before_the_next_attempt(
    account: OneAccount, pairing: Pairing, clock: Clock
) -> None:
    await pairing.begin(account)
    account.driver.pairing.time_out()
    await account.settle()
    with pytest.raises(ResourceExhausted) as refused:
        await pairing.begin(account)
    assert refused.value.reason == "RATE_LIMITED"
    assert refused.value.retry_after == pytest.approx(INTERVAL, abs=5)
    await clock.skip(INTERVAL)
    assert (await pairing.begin(account)).kinds == ["qr"]


async def test_a_paired_account_is_not_paired_again(account: OneAccount, pairing: Pairing) -> None:
    await account.connected()
    with pytest.raises(FailedPrecondition) as refused:
        await pairing.begin(account)
    assert refused.value.reason == "ALREADY_PAIRED"


async def test_an_account_can_be_paired_again_at_once_after_it_was_logged_out(
    account: OneAccount, pairing: Pairing
) -> None:
    await pairing.begin(account)
    account.driver.pairing.accept(PHONE)
    await account.settle()
    await account.journal.commit()
    account.session.log_out()
    assert (await pairing.begin(account)).kinds == ["qr"]


async def test_an_attempt_ends_when_the_account_leaves(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.session.close()
    pairing.pairings.forget(account.session)
    await account.settle()
    assert caller.error is not None
    assert account.driver.pairing.over


# Calls


async def test_an_answer_to_a_network_that_asks_nothing_is_refused(
    account: OneAccount, pairing: Pairing
) -> None:
    caller = await pairing.begin(account)
    for answer in ({"confirm": False}, {"assertion_json": "{}"}):
        with pytest.raises(FailedPrecondition) as refused:
            await pairing.answer(account, attempt_id=caller.attempt.id, **answer)
        assert refused.value.reason == "PAIRING_IN_PROGRESS"
    assert not caller.ended


async def test_a_passkey_is_asked_for_and_its_answer_handed_on(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.ask_passkey(b'{"challenge":"x"}')
    await account.settle()
    assert caller.steps[-1].passkey.challenge_json == '{"challenge":"x"}'
    assert caller.steps[-1].passkey.expire_time.seconds > time.time()
    await pairing.answer(account, attempt_id=caller.attempt.id, assertion_json='{"id":"y"}')
    assert account.driver.pairing.passkey == b'{"id":"y"}'


async def test_only_the_first_answer_to_a_question_counts(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.ask_passkey(b"{}")
    await account.settle()
    for assertion in ("first", "second"):
        await pairing.answer(account, attempt_id=caller.attempt.id, assertion_json=assertion)
    assert account.driver.pairing.passkey == b"first"


async def test_a_comparison_is_not_answered_with_a_passkey(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.compare("1234")
    await account.settle()
    with pytest.raises(FailedPrecondition):
        await pairing.answer(account, attempt_id=caller.attempt.id, assertion_json="{}")


async def test_who_saw_the_same_code_goes_on(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.compare("1234")
    await account.settle()
    assert caller.steps[-1].confirm.code == "1234"
    await pairing.answer(account, attempt_id=caller.attempt.id, confirm=True)
    assert account.driver.pairing.confirmed
    assert not caller.ended


async def test_who_saw_another_code_ends_the_attempt(account: OneAccount, pairing: Pairing) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.compare("1234")
    await account.settle()
    await pairing.answer(account, attempt_id=caller.attempt.id, confirm=False)
    await eventually(lambda: caller.ended)
    assert caller.steps[-1].WhichOneof("step") == "refused"
    assert account.driver.pairing.over
    assert not account.driver.pairing.confirmed
    assert account.shown.state == pb.SESSION_STATE_NEW


async def test_an_answer_is_for_an_attempt_that_runs(account: OneAccount, pairing: Pairing) -> None:
    with pytest.raises(NotFound):
        await pairing.answer(account, attempt_id=new_id(Prefix.PAIRING), confirm=True)
    caller = await pairing.begin(account)
    account.driver.pairing.refuse("no")
    await account.settle()
    with pytest.raises(NotFound):
        await pairing.answer(account, attempt_id=caller.attempt.id, confirm=True)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"attempt_id": "pai_x", "confirm": True}, "attempt_id"),
        ({"attempt_id": new_id(Prefix.PAIRING)}, "answer"),
        ({"attempt_id": new_id(Prefix.PAIRING), "assertion_json": ""}, "assertion_json"),
        ({"attempt_id": new_id(Prefix.PAIRING), "assertion_json": "x" * 65_537}, "assertion_json"),
    ],
)
async def test_a_bad_field_of_an_answer_is_named(
    account: OneAccount, pairing: Pairing, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        await pairing.answer(account, **given)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"request_id": ""}, "request_id"),
        ({"phone": "0151"}, "phone"),
        ({"method": pb.PAIR_METHOD_CODE}, "phone"),
        ({"attempt_id": "anything"}, "attempt_id"),
        ({"timeout": Duration(nanos=999_999_999)}, "timeout"),
        ({"timeout": Duration(seconds=601)}, "timeout"),
        ({"method": pb.PAIR_METHOD_CREDENTIALS}, "credentials"),
    ],
)
async def test_a_bad_field_of_a_pairing_is_named(
    account: OneAccount, pairing: Pairing, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        await pairing.call(account, **given)
    assert refused.value.field == field


async def test_a_network_that_hands_out_no_credentials_takes_none(
    account: OneAccount, pairing: Pairing
) -> None:
    cloud = pb.CloudCredentials(phone_number_id="1", business_account_id="2", access_token="3")
    with pytest.raises(FailedPrecondition) as refused:
        await pairing.call(account, method=pb.PAIR_METHOD_CREDENTIALS, cloud=cloud)
    assert refused.value.reason == "UNSUPPORTED_BY_NETWORK"
    assert account.driver.pairings == []


# So many at once


async def test_further_attempts_queue_and_move_up(account: OneAccount, others: list[OneAccount]) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    await pairing.begin(account)
    callers = [await pairing.begin(other) for other in others]
    assert [caller.steps[-1].queued_behind for caller in callers] == [1, 2, 3]
    assert [other.driver.pairings for other in others] == [[], [], []]
    account.driver.pairing.refuse("no")
    await account.settle()
    assert callers[0].kinds[-1] == "qr"
    assert [caller.steps[-1].queued_behind for caller in callers[1:]] == [1, 2]
    pairing.close()


async def test_an_account_that_leaves_the_queue_lets_the_next_one_move_up(
    account: OneAccount, others: list[OneAccount]
) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    await pairing.begin(account)
    callers = [await pairing.begin(other) for other in others]
    pairing.pairings.forget(others[0].session)
    await account.settle()
    account.driver.pairing.refuse("no")
    await account.settle()
    assert callers[1].kinds[-1] == "qr"
    assert others[0].driver.pairings == []
    pairing.close()


async def test_an_account_that_leaves_in_its_turn_gives_the_turn_on(
    account: OneAccount, others: list[OneAccount]
) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    await pairing.begin(account)
    callers = [await pairing.begin(other) for other in others]
    account.driver.pairing.refuse("no")
    pairing.pairings.forget(others[0].session)
    await account.settle()
    assert callers[1].kinds[-1] == "qr"
    pairing.close()


async def test_an_attempt_ends_in_the_queue_when_its_time_is_over(
    account: OneAccount, others: list[OneAccount], clock: Clock
) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    await pairing.begin(account, timeout=600.0)
    caller = await pairing.begin(others[0], timeout=60.0)
    await clock.skip(61)
    assert caller.kinds == ["queued_behind", "timed_out"]
    assert others[0].driver.pairings == []
    pairing.close()


async def test_an_attempt_that_never_had_its_turn_keeps_its_account_from_no_other(
    account: OneAccount, others: list[OneAccount], clock: Clock
) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    await pairing.begin(account, timeout=600.0)
    await pairing.begin(others[0], timeout=60.0)
    await clock.skip(61)
    account.driver.pairing.refuse("no")
    await account.settle()
    again = await pairing.begin(others[0])
    assert again.kinds == ["qr"]
    pairing.close()


# Shares of the tenants


@pytest.fixture
async def tenants() -> AsyncIterator[list[list[OneAccount]]]:
    """Three tenants with ten accounts each."""
    made = []
    for _ in range(3):
        tenant = new_uuid()
        made.append([OneAccount(replace(account_row(new_uuid()), tenant=tenant)) for _ in range(10)])
    yield made
    for account in (account for accounts in made for account in accounts):
        await account.host.close()


def rooms(callers: list[Caller]) -> int:
    return sum(caller.kinds[-1:] == ["qr"] for caller in callers)


async def test_one_tenant_never_holds_all_rooms(tenants: list[list[OneAccount]]) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=8))
    first = [await pairing.begin(account) for account in tenants[0]]
    assert rooms(first) == 4
    second = [await pairing.begin(account) for account in tenants[1]]
    assert rooms(second) == 2
    third = [await pairing.begin(account) for account in tenants[2]]
    assert rooms(third) == 1
    pairing.close()


async def test_turns_to_pair_go_round_the_tenants(tenants: list[list[OneAccount]]) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    for account in tenants[0]:
        await pairing.begin(account)
    caller = await pairing.begin(tenants[1][0])
    assert caller.steps[-1].queued_behind == 2
    for account in tenants[0][:2]:
        account.driver.pairing.refuse("no")
        await account.settle()
    assert caller.kinds[-1] == "qr"
    pairing.close()


async def test_every_room_is_free_again_once_all_have_left(tenants: list[list[OneAccount]]) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=4))
    callers = [await pairing.begin(account) for account in tenants[0][:4]]
    for account in tenants[0][:4]:
        pairing.pairings.forget(account.session)
        await account.settle()
    assert all(caller.ended for caller in callers)
    assert rooms([await pairing.begin(account) for account in tenants[1]]) == 2
    pairing.close()


async def test_an_attempt_that_nobody_watches_ends(
    account: OneAccount, others: list[OneAccount], clock: Clock
) -> None:
    pairing = Pairing(SessionSettings(pairings_at_once=1))
    gone = await pairing.begin(account, timeout=600.0)
    waiting = await pairing.begin(others[0], timeout=600.0)
    gone.leave()
    await account.settle()
    await clock.skip(UNWATCHED_SECONDS - 1)
    assert waiting.kinds == ["queued_behind"]
    await clock.skip(2)
    assert waiting.kinds == ["queued_behind", "qr"]
    assert account.shown.state == pb.SESSION_STATE_NEW
    pairing.close()


async def test_an_attempt_that_somebody_comes_back_to_goes_on(
    account: OneAccount, pairing: Pairing, clock: Clock
) -> None:
    first = await pairing.begin(account, timeout=600.0)
    first.leave()
    await account.settle()
    await clock.skip(UNWATCHED_SECONDS - 1)
    again = await pairing.begin(account)
    await clock.skip(UNWATCHED_SECONDS)
    assert (again.attempt, again.kinds) == (first.attempt, ["qr"])


async def test_an_attempt_that_one_of_two_watches_goes_on(
    account: OneAccount, pairing: Pairing, clock: Clock
) -> None:
    first, second = await pairing.begin(account, timeout=600.0), await pairing.begin(account)
    first.leave()
    await account.settle()
    await clock.skip(UNWATCHED_SECONDS + 1)
    assert second.kinds == ["qr"]


async def test_a_pairing_that_is_being_stored_is_not_abandoned(
    account: OneAccount, pairing: Pairing, clock: Clock
) -> None:
    caller = await pairing.begin(account)
    account.driver.pairing.accept(PHONE)
    await account.settle()
    caller.leave()
    await account.settle()
    await clock.skip(UNWATCHED_SECONDS + 1)
    await account.journal.commit()
    assert account.shown.paired
