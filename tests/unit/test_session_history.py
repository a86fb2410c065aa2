"""Pages of chats' pasts: each is stored whole, with what tells of it, whatever is in it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.chat_actions import HistoryPage
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.inbound.history import Histories
from mesh_session_node.journal import REFUSED, Event, InboundMessage, JobStep, Poison
from mesh_session_node.store.history_jobs import HistoryPlan
from sessionmesh.v1 import content_pb2, job_pb2, message_pb2
from tests.support.eventually import eventually
from tests.support.memory_host import OneAccount

ADA = "phone:+4915100000009"


class Jobs:
    """One job for a hundred messages of a chat."""

    def __init__(self) -> None:
        self.row = {
            "id": new_uuid(),
            "done": 0,
            "total": 100,
            "detail": HistoryPlan(chat=ADA, time=1, begun=True).text,
            "cancel_time": None,
        }
        self.known_ids: set[str] = set()

    async def job(self, _job: object) -> dict[str, Any]:
        return self.row

    async def known(self, _account: object, _network_ids: object) -> set[str]:
        return self.known_ids


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


def _histories(jobs: Jobs) -> Histories:
    nothing = cast("Any", None)
    return Histories(cast("Any", jobs), nothing, nothing, nothing)


def _came(network_id: str) -> Incoming:
    return Incoming(
        network_id=network_id,
        chat=ADA,
        sender=ADA,
        push_name="Ada",
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
        time=1_700_000_000_000_000,
        history=True,
    )


async def _fetching(
    account: OneAccount, jobs: Jobs, page: HistoryPage, monkeypatch: pytest.MonkeyPatch
) -> asyncio.Task[None]:
    """The job at work, whose first page waits to be stored."""
    await account.connected()

    async def fetch_history(*_asked: object) -> HistoryPage:
        return page

    context = account.session.context
    monkeypatch.setattr(context.link, "fetch_history", fetch_history)
    fetching = asyncio.create_task(_histories(jobs)._fetch(context, cast("Any", jobs.row)))
    await eventually(lambda: bool(account.journal.units))
    return fetching


async def test_a_page_is_stored_in_one_commit_with_its_event_and_how_far_the_job_is(
    account: OneAccount, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.known_ids = {"3A02"}
    page = HistoryPage([_came("3A03"), _came("3A02"), _came("3A01")], False)

    fetching = await _fetching(account, jobs, page, monkeypatch)

    (unit,) = account.journal.units
    first, second, event, step = unit
    assert isinstance(first, InboundMessage)
    assert isinstance(second, InboundMessage)
    assert (first.network_id, second.network_id) == ("3A03", "3A01")
    assert isinstance(event, Event)
    assert isinstance(step, JobStep)
    assert (step.job, step.state, step.done) == (jobs.row["id"], job_pb2.JOB_STATE_RUNNING, 3)
    assert '"3A01"' in step.detail, "where the next page begins"
    fetching.cancel()


async def test_a_node_that_has_lost_the_account_fetches_no_more_of_its_past(
    account: OneAccount, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching = await _fetching(account, jobs, HistoryPage([_came("3A01")], False), monkeypatch)
    await account.journal.commit(REFUSED)
    async with asyncio.timeout(5):
        await fetching
    assert account.journal.units == []


async def test_a_message_of_the_past_that_the_database_refuses_has_one_in_its_place(
    account: OneAccount, jobs: Jobs
) -> None:
    await account.connected()
    step = JobStep(new_uuid(), job_pb2.JOB_STATE_RUNNING, 1)

    storing = asyncio.create_task(_histories(jobs)._store(account.session.context, [_came("3A01")], [step]))
    await account.settle()
    for _ in range(2):  # the page, and then the message alone
        await account.journal.commit(Poison(ValueError("refused")))
        await account.settle()
    (row,) = account.journal.waiting
    assert isinstance(row, InboundMessage)
    stored = message_pb2.Message.FromString(row.content)
    assert (stored.network_message_id, stored.content.WhichOneof("kind")) == ("3A01", "unknown")
    await account.journal.commit()
    await account.settle()
    assert account.journal.waiting == [step]
    await account.journal.commit()
    assert await storing
