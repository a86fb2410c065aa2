"""Fetches with headers: this process alone has these, from the moment that the fetch is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import ResourceExhausted
from mesh_core.ids import new_uuid
from mesh_core.rpc.auth import Identity, Role
from mesh_media.api.fetches import FetchRequests
from mesh_media.ingest.announcements import Policy
from mesh_media.repository.rows import NewMedia, WorkRow
from sessionmesh.v1 import media_pb2
from tests.support.eventually import eventually

CALLER = Identity(Role.TENANT, new_uuid(), "key", frozenset())
HEADERS = {"x-key": "mine"}


class Rows:
    """Stands for `MediaRepository`: a row is there at once, and the answer comes when it `answers`."""

    def __init__(self) -> None:
        self.stored: list[UUID] = []
        self.answers = asyncio.Event()
        self.error: Exception | None = None

    async def check_owner(self, *_: object) -> None:
        return None

    async def add(self, new: NewMedia, *_: object) -> Any:
        self.stored.append(new.id)
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return SimpleNamespace(id=new.id)


class Held:
    """Stands for the lane of fetches and for their headers: nothing that it takes is begun."""

    def __init__(self) -> None:
        self.rows: list[WorkRow] = []
        self.headers: dict[UUID, Mapping[str, str]] = {}

    @property
    def own(self) -> int:
        return len(self.rows)

    def own_of(self, tenant: UUID) -> int:
        return sum(row.tenant == tenant for row in self.rows)

    def add(self, row: WorkRow) -> None:
        self.rows.append(row)

    def remember(self, media: UUID, headers: Mapping[str, str]) -> None:
        self.headers[media] = headers


class Anything:
    """Stands for the policies of tenants, and for the check of addresses."""

    async def of(self, _tenant: UUID) -> Policy:
        return Policy()

    async def check(self, _field: str, url: str) -> str:
        return url


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def requests(rows: Rows, held: Held) -> FetchRequests:
    parts = SimpleNamespace(media=rows, fetches=held, fetching=held, policies=Anything(), web=Anything())
    return FetchRequests(cast("Any", parts))


def wanted() -> media_pb2.FetchMediaRequest:
    return media_pb2.FetchMediaRequest(request_id="r", url="https://example.com/a", headers=HEADERS)


async def test_a_caller_that_leaves_while_its_fetch_is_stored_does_not_lose_it(
    requests: FetchRequests, rows: Rows, held: Held
) -> None:
    accepting = asyncio.create_task(requests.accept(wanted(), CALLER), name="accept")
    await eventually(lambda: len(rows.stored) == 1)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    assert [row.media for row in held.rows] == rows.stored
    assert held.headers == {rows.stored[0]: HEADERS}


async def test_a_fetch_whose_commit_has_no_answer_is_not_lost(
    requests: FetchRequests, rows: Rows, held: Held
) -> None:
    rows.error = ConnectionResetError()
    rows.answers.set()
    with pytest.raises(ConnectionResetError):
        await requests.accept(wanted(), CALLER)
    assert [row.media for row in held.rows] == rows.stored


async def test_those_that_are_being_stored_count_among_those_that_wait(
    requests: FetchRequests, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_media.api.fetches.MOST_HELD", 4)
    accepting = [asyncio.create_task(requests.accept(wanted(), CALLER), name="accept") for _ in range(5)]
    await eventually(lambda: sum(task.done() for task in accepting) == 3)
    rows.answers.set()
    ended = await asyncio.gather(*accepting, return_exceptions=True)
    assert sum(isinstance(one, ResourceExhausted) for one in ended) == 3, "one alone has half"
