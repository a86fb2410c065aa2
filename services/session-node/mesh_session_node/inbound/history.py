"""The past of chats, fetched from the account's phone as jobs: by whoever owns the account, page after page,
each stored before the next is asked for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from typing import Protocol, cast

import structlog
from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from google.rpc import code_pb2, status_pb2
from msgspec.structs import replace

from mesh_core.database import UNAVAILABLE
from mesh_core.errors import Unavailable
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_core.jobs import traces
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import timestamp
from mesh_session_node.context.places import Places
from mesh_session_node.drivers.interface.capabilities import Acting
from mesh_session_node.drivers.interface.chat_actions import MAX_HISTORY_PAGE, HistoryPage
from mesh_session_node.drivers.interface.content import Incoming, Reference
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refused
from mesh_session_node.inbound.arrivals import Arrival
from mesh_session_node.inbound.bounds import fit_address, fit_id, fit_time
from mesh_session_node.inbound.chats import Chats
from mesh_session_node.inbound.fitting import fit_incoming, placeholder
from mesh_session_node.inbound.media import MediaFetcher
from mesh_session_node.inbound.received import as_message
from mesh_session_node.journal import Committed, Event, InboundMessage, JobStep, Poison
from mesh_session_node.journal import Refused as RefusedByFence
from mesh_session_node.store.history_jobs import HistoryJobs, HistoryPlan, plan_of
from sessionmesh.v1 import chat_pb2 as pb
from sessionmesh.v1 import job_pb2
from sessionmesh.v1.common_pb2 import MessageRef

logger = structlog.get_logger(__name__)

AT_ONCE = 8
"""Accounts of a node whose past is fetched at once, in turns over the tenants: one alone has half."""


class RunningSession(Protocol):
    """A session of this node."""

    @property
    def context(self) -> SessionContext: ...


class Running(Protocol):
    """What runs on this node."""

    @property
    def sessions(self) -> Mapping[str, RunningSession]: ...

    @property
    def epochs(self) -> Mapping[int, int]:
        """The shards that are this node's, with their epochs."""


class Histories:
    """Works on the jobs of the accounts that run here."""

    def __init__(self, jobs: HistoryJobs, chats: Chats, media: MediaFetcher, here: Running) -> None:
        self._jobs = jobs
        self._chats = chats
        self._media = media
        self._here = here
        self._running: set[UUID] = set()
        """Accounts whose past is fetched, or that wait for their turn."""
        self._places = Places(AT_ONCE, 1)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                shards = self._here.epochs
                await self._jobs.end_unwanted(shards)
                for row in await self._jobs.unfinished(shards):
                    self._begin(row)
            except UNAVAILABLE as error:
                logger.warning("no look for jobs about history", error=repr(error))
            await asyncio.sleep(_LOOK_SECONDS)

    def _begin(self, row: Record) -> None:
        if row["account"] in self._running:
            return
        session = self._here.sessions.get(encode(Prefix.ACCOUNT, row["account"]))
        if session is None or session.context.link is None:
            return
        self._running.add(row["account"])
        context = session.context
        context.host.spawn(f"history of {context.id}", self._work(context, row["account"], row["id"]))

    async def _work(self, session: SessionContext, account: UUID, job: UUID) -> None:
        try:
            async with self._places.place(session.ref):
                row = await self._jobs.job(job)  # as it is by now
                if row is not None and not session.closed and session.link is not None:
                    with traces.turn(job, job_pb2.JOB_KIND_SYNC_HISTORY):
                        await self._fetch(session, row)
        except _LATER as error:
            logger.warning("a job about history waits", account_id=session.id, error=repr(error))
        except _NoAnswer as error:
            await self._fail(session, job, code_pb2.DEADLINE_EXCEEDED, str(error))
        except Refused as error:
            await self._fail(session, job, code_pb2.FAILED_PRECONDITION, str(error) or "refused")
        except Exception:  # it would fail again, each second
            logger.exception("a job about history cannot go on", account_id=session.id, job=str(job))
            await self._fail(session, job, code_pb2.INTERNAL, "it cannot go on")
        finally:
            self._running.discard(account)

    async def _fail(
        self, session: SessionContext, job: UUID, code: code_pb2.Code.ValueType, why: str
    ) -> None:
        row = await self._jobs.job(job)
        error = status_pb2.Status(code=code, message=why).SerializeToString()
        if row is not None:
            await _end(session, JobStep(job, job_pb2.JOB_STATE_FAILED, row["done"], error=error))

    async def _fetch(self, session: SessionContext, row: Record) -> None:
        """Until the job has ended, or the account runs here no more."""
        job, most, done, plan = row["id"], row["total"], row["done"], plan_of(row)
        while await self._wanted(job):
            following = await self._ready(session, plan) if done < most else None
            if following is None:
                await _end(session, JobStep(job, job_pb2.JOB_STATE_SUCCEEDED, done))
                return
            plan = following
            if session.closed or session.link is None:
                return
            before = Reference(plan.network_id, plan.chat, plan.sender, None, plan.time)
            link = cast(Acting, session.link)
            following_at = time.monotonic() + 60 / session.host.settings.history_per_minute
            came: list[Incoming] = []
            told: Told = []
            try:
                page = await link.fetch_history(plan.chat, before, min(most - done, MAX_HISTORY_PAGE))
            except TimeoutError:
                plan = _unanswered(plan)
            else:
                came = await self._new(session, page)
                told = _event(session, job, plan, page, len(came))
                done, plan = done + len(page.messages), _behind(plan, page)
            told.append(JobStep(job, job_pb2.JOB_STATE_RUNNING, done, plan.text))
            if not await self._store(session, came, told):
                return
            await asyncio.sleep(following_at - time.monotonic())

    async def _wanted(self, job: UUID) -> bool:
        row = await self._jobs.job(job)
        return row is not None and row["cancel_time"] is None

    async def _ready(self, session: SessionContext, plan: HistoryPlan) -> HistoryPlan | None:
        """The plan with where to go on; None: there is nothing left."""
        if not plan.chat:
            if not plan.all_chats:
                return None
            await self._chats.store.fold(session.ref.uuid)
            chat = await self._chats.store.following(session.ref.uuid, plan.behind)
            if chat is None:
                return None
            plan = replace(plan, chat=chat, behind=chat)
        if plan.begun:
            return plan
        plan = replace(plan, begun=True)
        if plan.network_id or plan.time:
            return plan
        oldest = await self._chats.oldest(session, plan.chat)
        if oldest is None:
            return plan
        return replace(plan, network_id=oldest.network_id, sender=oldest.sender, time=oldest.time)

    async def _new(self, session: SessionContext, page: HistoryPage) -> list[Incoming]:
        """A page's messages that are not stored, made fit."""
        came = {one.network_id: one for one in [_made_fit(session, message) for message in page.messages]}
        known = await self._jobs.known(session.ref.uuid, [*came])
        return [one for one in came.values() if one.network_id not in known]

    async def _store(self, session: SessionContext, came: list[Incoming], told: Told) -> bool:
        """Store a page's messages and what is told of them, in one commit; False: the account is no longer
        this node's.
        """
        rows = [_row(session, one) for one in came]
        outcome = await session.host.journal.write(session.ref, *rows, *told)
        if isinstance(outcome, Poison):
            for one in came:
                await self._store_one(session, one)
            return await _stored(session, *told)
        for row in rows:
            if row.media is not None:
                self._media.add(session, row.id, row.media)
        return not isinstance(outcome, RefusedByFence)

    async def _store_one(self, session: SessionContext, came: Incoming) -> None:
        """Store a message, or what stands for one that the database refuses: what is older is to come."""
        row = _row(session, came)
        outcome = await session.host.journal.write(session.ref, row)
        if isinstance(outcome, Poison):
            logger.error(
                "the database refuses a message of the past",
                account_id=session.id,
                network_id=came.network_id,
                error=str(outcome.error),
            )
            await session.host.journal.write(session.ref, _row(session, placeholder(came)))
        elif isinstance(outcome, Committed) and row.media is not None:
            self._media.add(session, row.id, row.media)


class _NoAnswer(Exception):
    """The phone does not answer."""


def _behind(plan: HistoryPlan, page: HistoryPage) -> HistoryPlan:
    """Where the next page begins: in the next chat, where there is nothing older in this one."""
    oldest = _oldest(page)
    if page.exhausted or oldest is None or oldest.network_id == plan.network_id:
        return _next_chat(plan)
    return replace(
        plan, network_id=oldest.network_id, sender=oldest.sender, time=oldest.time or plan.time, silent=0
    )


def _next_chat(plan: HistoryPlan) -> HistoryPlan:
    return HistoryPlan(all_chats=plan.all_chats, behind=plan.behind)


def _unanswered(plan: HistoryPlan) -> HistoryPlan:
    """To ask again; a chat of which nothing is stored, that a question could go back from, is passed over
    where there are others: phones may not answer that at all. Raises `_NoAnswer` when it is enough.
    """
    if plan.all_chats and not plan.network_id:
        return _next_chat(plan)
    if plan.silent + 1 >= _QUESTIONS:
        raise _NoAnswer("the account's phone does not answer: it may be off, or have no connection")
    return replace(plan, silent=plan.silent + 1)


def _oldest(page: HistoryPage) -> Reference | None:
    """The oldest message that the phone gave."""
    if (oldest := page.oldest) is None:
        if not page.messages:
            return None
        last = page.messages[-1]
        sender = "" if last.from_account else last.sender
        oldest = Reference(last.network_id, last.chat, sender, None, last.time)
    now = time.time_ns() // 1000
    return dataclasses.replace(
        oldest,
        network_id=fit_id(oldest.network_id),
        sender=fit_address(oldest.sender),
        time=fit_time(oldest.time, now),
    )


def _made_fit(session: SessionContext, came: Incoming) -> Incoming:
    try:
        return fit_incoming(came)
    except Exception:  # this message's; those before it are to be stored
        logger.exception("a message of the past cannot be taken", account_id=session.id)
        return placeholder(came)


def _row(session: SessionContext, came: Incoming) -> InboundMessage:
    uuid = new_uuid()
    message = as_message(Arrival(session, None, came), uuid, {})
    return InboundMessage(
        id=uuid,
        network_id=came.network_id,
        chat=came.chat,
        content=message.SerializeToString(),
        event=None,
        network_time=came.time,
        direction=message.direction,
        status=message.status,
        media=came.blob,
    )


async def _end(session: SessionContext, step: JobStep) -> None:
    if await _stored(session, step):
        traces.record_end(step.job, job_pb2.JOB_KIND_SYNC_HISTORY, step.state)


async def _stored(session: SessionContext, *rows: Event | JobStep) -> bool:
    """False: the account is no longer this node's."""
    return not isinstance(await session.host.journal.write(session.ref, *rows), RefusedByFence)


def _event(session: SessionContext, job: UUID, plan: HistoryPlan, page: HistoryPage, new: int) -> Told:
    """What tells of a page, where there is something to tell."""
    if not new and not page.exhausted:
        return []
    synced = pb.HistoryEvent(
        job_id=encode(Prefix.JOB, job), chat=plan.chat, message_count=new, exhausted=page.exhausted
    )
    _show_oldest(synced, page, plan)
    return [session.events.of("history.synced", time.time_ns() // 1000, history=synced)]


def _show_oldest(synced: pb.HistoryEvent, page: HistoryPage, plan: HistoryPlan) -> None:
    oldest = _oldest(page)
    if oldest is not None:
        network_id, sender, micros = oldest.network_id, oldest.sender, oldest.time
    else:
        network_id, sender, micros = plan.network_id, plan.sender, plan.time
    if network_id:
        synced.oldest_message.CopyFrom(
            MessageRef(network_message_id=network_id, chat=plan.chat, sender=sender, from_account=not sender)
        )
    if micros:
        synced.oldest_message_time.CopyFrom(timestamp(micros))


Told = list[Event | JobStep]
_LATER: tuple[type[Exception], ...] = (ConnectionEnded, TimeoutError, Unavailable, *UNAVAILABLE)
_LOOK_SECONDS = 1.0
_QUESTIONS = 4
"""How often a phone is asked the same before it counts as not answering."""
