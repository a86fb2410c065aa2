"""What a tenant keeps of one person: sent to whoever asks, and erased as a job."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import addresses, ids, validation
from mesh_core.database import Database
from mesh_core.database.pool import AnyConnection
from mesh_core.database.requests import Method, request_digest
from mesh_core.errors import NotFound, ResourceExhausted
from mesh_core.ids import Prefix
from mesh_core.jobs import NewJob, Total, Worker, store, traces
from mesh_core.rpc.auth import current_identity
from mesh_router.retention import person_rows
from mesh_router.retention.erasing import Item, erase
from mesh_router.retention.person_rows import FoundMessage
from mesh_router.retention.persons import Identities
from mesh_router.tenants.person_records import kept_of
from sessionmesh.v1 import common_pb2, job_pb2, message_pb2, tenant_pb2

RECORD_EVERY = 100
"""Items after which the job's progress is stored."""
MOST_ERASURES = 20
"""Erasures of a tenant that have not ended."""
MOST_EXPORTS = 2
"""Exports that a router has under way."""
READ_SECONDS = 30.0
"""How long an export waits for its caller to read on."""
RETRY_SECONDS = 10.0


class PersonErasures(Worker):
    """Starts, runs and cancels erasures. `forget` has all nodes forget who has these addresses of a tenant's
    people.
    """

    kind = job_pb2.JOB_KIND_ERASE_PERSON

    def __init__(
        self, database: Database, forget: Callable[[UUID, Collection[str]], Awaitable[None]]
    ) -> None:
        super().__init__(database)
        self._forget = forget

    async def start(self, request: tenant_pb2.ErasePersonDataRequest) -> asyncpg.Record:
        """Returns the job's row. Its `subject` names nobody; whom it is about is forgotten at its end."""
        request_id = validation.request_id(request.request_id)
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        address = addresses.person("address", request.address)
        new = NewJob(ids.new_uuid(), self.kind, tenant, detail=json.dumps({"address": address}))
        caller = current_identity().tenant_id
        async with self._database.callers.of(caller).transaction() as connection:
            if not await connection.fetchval("SELECT true FROM tenant WHERE id = $1", tenant):
                raise NotFound("tenant", request.tenant_id)
            digest = request_digest(request)
            first = await store.repeated(connection, Method.ERASE_PERSON, request_id, digest, new)
            if first is not None:
                return first
            if await store.count_unfinished(connection, self.kind, tenant) >= MOST_ERASURES:
                raise ResourceExhausted(
                    f"the tenant has {MOST_ERASURES} erasures that have not ended",
                    "RATE_LIMITED",
                    quota="erasures of persons",
                    retry_after=RETRY_SECONDS,
                )
            return await store.insert(connection, new)

    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        return Total()

    async def cancel(self, connection: store.Connection, row: asyncpg.Record) -> asyncpg.Record:
        """At once before it began; else the worker sees it soon."""
        if row["state"] != job_pb2.JOB_STATE_PENDING:
            return row
        await connection.execute(_END, row["id"], job_pb2.JOB_STATE_CANCELLED, 0, 0)
        traces.record_end(row["id"], self.kind, job_pb2.JOB_STATE_CANCELLED)
        return await store.get(connection, row["id"]) or row

    async def work(self, connection: asyncpg.Connection, row: asyncpg.Record) -> None:
        done = failed = 0
        state: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_SUCCEEDED
        who = await self._known(connection, row)
        await self._forget(row["tenant"], who.addresses)  # what is not stored yet
        async for item in erase(connection, row["tenant"], who):
            done += 1
            failed += item is Item.WAITS
            if done % RECORD_EVERY == 0 and await connection.fetchval(_PROGRESS, row["id"], done, failed):
                state = job_pb2.JOB_STATE_CANCELLED
                break
        await self._forget(row["tenant"], who.addresses)  # what was read meanwhile
        await connection.execute(_END, row["id"], state, done, failed)
        traces.record_end(row["id"], self.kind, state)

    async def _known(self, connection: asyncpg.Connection, row: asyncpg.Record) -> Identities:
        """All addresses of the person, stored with the job before anything is erased: who goes on with it in
        another router finds no more what connects them.
        """
        detail = json.loads(row["detail"])
        if "addresses" in detail:
            return Identities(*detail["addresses"])
        who = Identities(detail["address"])
        await person_rows.learn_all(connection, row["tenant"], who)
        await connection.execute(_KNOWN, row["id"], json.dumps({"addresses": sorted(who.addresses)}))
        return who


class PersonExports:
    """Serves ExportPersonData. Each export reads all that the cluster keeps of messages and events, so a
    tenant has one at a time, and a router few.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[UUID] = set()

    async def frames(
        self, request: tenant_pb2.ExportPersonDataRequest
    ) -> AsyncGenerator[tenant_pb2.ExportPersonDataResponse, None]:
        """Raises `InvalidField`, `NotFound`, and `ResourceExhausted` RATE_LIMITED."""
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        who = Identities(addresses.person("address", request.address))
        callers = self._database.callers.of(current_identity().tenant_id)
        if not await callers.fetchval("SELECT true FROM tenant WHERE id = $1", tenant):
            raise NotFound("tenant", request.tenant_id)
        if tenant in self._running:
            raise _busy("the tenant has an export already")
        async with self._database.alone(f"export of {tenant}") as connection:
            if connection is None:
                raise _busy("the tenant has an export already")
            # After the tenant's turn: who is refused takes no place.
            if len(self._running) >= MOST_EXPORTS:
                raise _busy("this router has enough exports to do")
            self._running.add(tenant)
            try:
                async for frame in _frames(connection, tenant, who):
                    yield frame
            finally:
                self._running.discard(tenant)


async def _frames(
    connection: AnyConnection, tenant: UUID, who: Identities
) -> AsyncIterator[tenant_pb2.ExportPersonDataResponse]:
    await person_rows.learn_all(connection, tenant, who)
    known_as = await person_rows.people(connection, tenant, who)
    found_under = tenant_pb2.PersonAddresses(addresses=sorted(who.addresses), known_as=known_as)
    yield tenant_pb2.ExportPersonDataResponse(addresses=found_under)
    async for found in person_rows.messages(connection, tenant, who):
        yield tenant_pb2.ExportPersonDataResponse(message=_message(found))
    async for found_receipt in person_rows.receipts(connection, tenant, who):
        receipt = message_pb2.Receipt(
            member=common_pb2.Person(address=found_receipt.member),
            status=message_pb2.MessageStatus.ValueType(found_receipt.status),
            status_time=validation.to_timestamp(found_receipt.time),
        )
        message_id = ids.encode(Prefix.MESSAGE, found_receipt.message)
        yield tenant_pb2.ExportPersonDataResponse(
            receipt=tenant_pb2.PersonReceipt(message_id=message_id, receipt=receipt)
        )
    async for row in person_rows.records(connection, tenant, who):
        if (kept := kept_of(row)) is not None:
            yield tenant_pb2.ExportPersonDataResponse(kept=kept)
    async for event in person_rows.events(connection, tenant, who):
        event.event.commit_time.CopyFrom(validation.to_timestamp(event.row["commit_time"]))
        if others := [one for one in event.event.message_status.members if not who.is_one(one.member)]:
            for one in others:  # they are none of this person's business
                event.event.message_status.members.remove(one)
        yield tenant_pb2.ExportPersonDataResponse(event=event.event)


def _busy(why: str) -> ResourceExhausted:
    return ResourceExhausted(why, "RATE_LIMITED", quota="exports of persons", retry_after=RETRY_SECONDS)


def _message(found: FoundMessage) -> message_pb2.Message:
    """What is stored of a message; what GetMessage adds from what its node knows is not there."""
    row, stored = found.row, found.stored
    if isinstance(stored, message_pb2.Message):
        message = stored
    else:
        message = message_pb2.Message(content=stored.content, labels=stored.labels)
        if stored.HasField("options"):
            message.options.CopyFrom(stored.options)
    message.id = ids.encode(Prefix.MESSAGE, row["id"])
    message.account_id = ids.encode(Prefix.ACCOUNT, row["account"])
    message.chat = row["chat"]
    message.direction = row["direction"]
    message.origin = row["origin"]
    message.status = row["status"]
    message.network_message_id = row["network_id"]
    message.external_id = row["external_id"]
    message.create_time.FromMilliseconds(int.from_bytes(row["id"].bytes[:6], "big"))
    return message


_KNOWN = "UPDATE job SET detail = $2, update_time = now() WHERE id = $1"
_PROGRESS = """UPDATE job SET done = $2, failed = $3, update_time = now() WHERE id = $1
  RETURNING cancel_time IS NOT NULL"""
_END = """UPDATE job SET state = $2, total = $3, done = $3, failed = $4, detail = '{}', update_time = now(),
  end_time = now() WHERE id = $1"""
