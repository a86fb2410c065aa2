"""Pairing attempts: one per account at a time, a limited number on the node, resumed by calling again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import suppress

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import FailedPrecondition, MeshError, NotFound, ResourceExhausted, Unavailable
from mesh_core.signal import Signal
from mesh_core.telemetry import tracing
from mesh_session_node.account.attempt_ids import check_attempt_id, new_attempt_id
from mesh_session_node.account.pairing_rooms import PairingRooms
from mesh_session_node.account.pairing_steps import code_step, question_step
from mesh_session_node.account.session import Session
from mesh_session_node.account.state import SessionEvent
from mesh_session_node.account.views import view
from mesh_session_node.context.context import SessionSettings, account_moved
from mesh_session_node.context.events import timestamp
from mesh_session_node.drivers.interface.device import NewDevice
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, PairingRefused
from mesh_session_node.drivers.interface.pairing import (
    Paired,
    Pairing,
    PairingCode,
    PasskeyComparison,
    PasskeyRequest,
)
from mesh_session_node.journal import Refused, unwrap
from sessionmesh.v1 import session_pb2 as pb

logger = structlog.get_logger(__name__)

UNWATCHED_SECONDS = 60.0
"""An attempt that nobody watches for so long ends: whoever comes back before goes on with it."""
_ANSWERS = {"passkey": "assertion_json", "confirm": "confirm"}
"""What answers a step that asks."""
_LAST = frozenset({"paired", "timed_out", "refused"})


class Attempt:
    """One attempt. `step` is the present step, which streams show. One that the caller saw begin at another
    node goes on under its id.
    """

    def __init__(self, session: Session, request: pb.PairRequest, deadline: float) -> None:
        self.id = request.attempt_id or new_attempt_id(session.context.ref.uuid)
        self.session = session
        self.by_code = request.method == pb.PAIR_METHOD_CODE
        self.phone = request.phone or session.account.phone
        self.deadline = deadline
        self.timeout: asyncio.Timeout | None = None
        """What ends it at its deadline, while it runs."""
        self.step: pb.PairResponse | None = None
        self.error: MeshError | None = None
        self.pairing: Pairing | None = None
        """What the network asks, while it does."""
        self.declined = False  # the caller said that it is not to go on
        self.span = tracing.start_span("mesh.session.pair", attributes={"mesh.account.id": session.id})
        self._answered: pb.PairResponse | None = None
        self._changed = Signal()
        self.task: asyncio.Task[None] | None = None
        self._watchers = 0
        self._abandoned: asyncio.TimerHandle | None = None

    @property
    def tenant(self) -> UUID:
        return self.session.context.ref.tenant

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.error is not None or (self.step is not None and self.step.WhichOneof("step") in _LAST)

    def check_shows(self, request: pb.PairRequest) -> None:
        """Raise `FailedPrecondition` unless this is what the request would begin."""
        by_code = request.method == pb.PAIR_METHOD_CODE
        if by_code != self.by_code or (by_code and request.phone != self.phone):
            what = f"by a code for {self.phone}" if self.by_code else "by QR code"
            raise FailedPrecondition(
                f"the account is being paired {what}, by attempt {self.id}", "PAIRING_IN_PROGRESS"
            )

    def show(self, step: pb.PairResponse) -> None:
        """Replace the present step."""
        step.attempt_id = self.id
        self.step = step
        self._changed.notify()

    def show_place(self, place: int) -> None:
        """It waits for its turn, with so many before it."""
        if self.step is None or self.step.queued_behind != place:
            self.show(pb.PairResponse(queued_behind=place))

    def answer(self, request: pb.AnswerPairingRequest) -> None:
        """Answer the present step; a repeat does nothing. Raises `FailedPrecondition` PAIRING_IN_PROGRESS
        when that is not what it asks.
        """
        step, answer = self.step, request.WhichOneof("answer")
        asked = None if step is None else step.WhichOneof("step")
        if self.pairing is None or asked is None or _ANSWERS.get(asked) != answer:
            raise FailedPrecondition("the attempt does not ask for that now", "PAIRING_IN_PROGRESS")
        if self._answered is step:
            return
        self._answered = step
        if asked == "passkey":
            self.pairing.answer_passkey(request.assertion_json.encode())
        elif request.confirm:
            self.pairing.confirm_passkey()
        else:
            self.declined = True
            self._abandon()

    def fail(self, error: MeshError) -> None:
        """End every stream with an error."""
        self.error = error
        self._changed.notify()

    async def follow(self) -> AsyncGenerator[pb.PairResponse, None]:
        """The present step, and each one after it; the last one ends it."""
        shown = None
        self._watchers += 1
        if self._abandoned is not None:
            self._abandoned.cancel()
        try:
            while True:
                if self.step is not None and self.step is not shown:
                    shown = self.step
                    yield shown
                    continue
                if self.error is not None:
                    raise self.error
                if self.over:
                    return
                await self._changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and not self.over:
                loop = self.session.context.host.loop
                self._abandoned = loop.call_later(UNWATCHED_SECONDS, self._abandon)

    async def end_with_account(self) -> None:
        """End when the account is deleted; cancel it when the attempt is over."""
        session = self.session
        await session.context.changes.wait_until(lambda: session.account.deleted)
        self.fail(NotFound("account", session.id))
        self._abandon()

    def _abandon(self) -> None:
        """Its time is over, unless the network has accepted, and it is being stored."""
        if self.timeout is not None and self.timeout.when() is not None:
            self.timeout.reschedule(self.session.context.host.loop.time())


class Pairings:
    """The attempts of this node. They live in memory: the account's owner is the only one who makes them."""

    def __init__(self, settings: SessionSettings, pictures: Executor) -> None:
        """`pictures` draws codes, up to 16 ms each: many would keep the event loop from everybody's calls."""
        self._settings = settings
        self._pictures = pictures
        self._attempts: dict[str, Attempt] = {}
        self._allowed_at: dict[str, float] = {}
        self._rooms = PairingRooms(settings.pairings_at_once)

    def begin(self, session: Session, request: pb.PairRequest, timeout: float) -> Attempt:
        """The account's attempt: the running one, which every caller shares, or a new one.

        Who goes on with an attempt of another node, or of an earlier tenure here, and finds the account
        paired, is told so: the pairing was stored as the account left.

        Raises `NotFound` for the id of another account's attempt, `FailedPrecondition` ALREADY_PAIRED, or
        PAIRING_IN_PROGRESS where the running one does not show what is asked for, and `ResourceExhausted`
        when the account had one too recently.
        """
        if request.attempt_id:
            check_attempt_id(request.attempt_id, session.context.ref.uuid)
        attempt = self._attempts.get(session.id)
        if attempt is not None and attempt.id == request.attempt_id:
            return attempt
        if attempt is not None and not attempt.over:
            attempt.check_shows(request)
            return attempt
        if session.paired and request.attempt_id:
            self._attempts[session.id] = attempt = Attempt(session, request, 0.0)
            with attempt.span:
                self._finish(attempt, _paired(session))
            return attempt
        now = time.monotonic()
        if (wait := self._allowed_at.get(session.id, 0.0) - now) > 0:
            raise ResourceExhausted(
                "the account was tried to be paired too recently",
                "RATE_LIMITED",
                quota="pairing",
                retry_after=wait,
            )
        session.pairing_begun()
        attempt = Attempt(session, request, now + timeout)
        self._attempts[session.id] = attempt
        session.context.host.spawn(f"pair {session.id}", self._run(attempt))
        return attempt

    def running(self, session: Session, attempt_id: str) -> Attempt:
        """The account's attempt. Raises `NotFound` when that is not it, or is over."""
        attempt = self._attempts.get(session.id)
        if attempt is None or attempt.id != attempt_id or attempt.over:
            raise NotFound("pairing attempt", attempt_id)
        return attempt

    def forget(self, session: Session) -> None:
        """The account is not this node's any more."""
        attempt = self._attempts.pop(session.id, None)
        if attempt is not None:
            if not attempt.over:
                self._allowed_at.pop(session.id, None)  # it goes on, here or elsewhere
                attempt.fail(account_moved(attempt.id))
            if attempt.task is not None:
                attempt.task.cancel()

    async def _run(self, attempt: Attempt) -> None:
        with attempt.span:
            await self._try(attempt)
            if attempt.error is not None:
                attempt.span.fail(attempt.error)

    async def _try(self, attempt: Attempt) -> None:
        attempt.task = asyncio.current_task()
        session = attempt.session
        interval = 0.0
        deletion = asyncio.create_task(attempt.end_with_account(), name=f"deletion of {session.id}")
        try:
            async with asyncio.timeout(max(0.0, attempt.deadline - time.monotonic())) as deadline:
                attempt.timeout = deadline
                async with self._rooms.room(attempt):
                    # Only an attempt that had its turn may have shown a code, and keeps the account waiting.
                    interval = self._settings.pairing_interval_seconds
                    self._allowed_at[session.id] = time.monotonic() + interval
                    paired = await self._pair(attempt, deadline)
        except TimeoutError:
            if attempt.declined:
                self._refused(attempt, "it was declined")
                return
            paired = False
        except PairingRefused as error:
            self._refused(attempt, str(error))
            return
        except ConnectionEnded as error:
            session.pairing_ended(SessionEvent.PAIRING_STOPPED, error.detail)
            self._allowed_at.pop(session.id, None)  # it was not the caller's doing
            attempt.fail(Unavailable(f"the network: {error.detail}", "BACKEND_UNAVAILABLE", retry_after=5.0))
            return
        except MeshError as error:
            session.pairing_ended(SessionEvent.PAIRING_STOPPED, error.message)
            attempt.fail(error)
            return
        except asyncio.CancelledError:
            session.pairing_ended(SessionEvent.PAIRING_STOPPED, "")
            raise
        except Exception:  # what the network showed or gave cannot be used
            logger.exception("a pairing failed", account_id=session.id)
            session.pairing_ended(SessionEvent.PAIRING_STOPPED, "the network's answer cannot be used")
            unusable = "the network's answer cannot be used"
            attempt.fail(Unavailable(unusable, "BACKEND_UNAVAILABLE", retry_after=60.0))
            return
        finally:
            deletion.cancel()
        if paired:
            self._allowed_at.pop(session.id, None)
            self._finish(attempt, _paired(session))
            return
        session.pairing_ended(SessionEvent.PAIRING_TIMED_OUT, "")
        retry = int((time.time() + interval) * 1e6)
        self._finish(attempt, pb.PairResponse(timed_out=pb.PairTimeout(retry_time=timestamp(retry))))

    async def _pair(self, attempt: Attempt, deadline: asyncio.Timeout) -> bool:
        """Whether somebody accepted, and it is stored."""
        session, context = attempt.session, attempt.session.context
        settings = context.settings
        device = NewDevice(
            settings.given.device_name,
            with_history=settings.given.sync_full_history,
            proxy=await context.host.proxies.found(settings.proxy_url),
        )
        attempt.pairing = pairing = context.driver.pair(
            account_id=session.id,
            by_code=attempt.by_code,
            phone=attempt.phone,
            seconds=attempt.deadline - time.monotonic(),
            device=device,
        )
        try:
            async for step in pairing:
                if not isinstance(step, Paired):
                    self._show(attempt, await self._shown(attempt, step))
                    continue
                expected, phone = session.account.phone, step.state.phone
                if expected and phone and phone != expected:
                    raise PairingRefused(
                        f"{phone} accepted, and the account is expected to be {expected}; "
                        "the linked device that it now shows can be removed there"
                    )
                deadline.reschedule(None)  # the network holds the account for paired: that must be stored
                row, rows = session.pairing_rows(step)
                outcome = await context.host.journal.write(context.ref, *rows)
                if isinstance(outcome, Refused):
                    raise account_moved(attempt.id)
                unwrap(outcome, context.ref.uuid)
                await pairing.stored()
                session.pairing_done(step.state, row)
                return True
        finally:
            attempt.pairing = None
            await pairing.aclose()
        return False

    async def _shown(
        self, attempt: Attempt, step: PairingCode | PasskeyRequest | PasskeyComparison
    ) -> pb.PairResponse:
        """A step as the API shows it."""
        if isinstance(step, PairingCode):
            loop = attempt.session.context.host.loop
            return await loop.run_in_executor(self._pictures, code_step, step)
        return question_step(step, time.time() + attempt.deadline - time.monotonic())

    def _refused(self, attempt: Attempt, detail: str) -> None:
        attempt.session.pairing_ended(SessionEvent.PAIRING_STOPPED, detail)
        self._finish(attempt, pb.PairResponse(refused=pb.PairRefusal(detail=detail)))

    def _show(self, attempt: Attempt, step: pb.PairResponse) -> None:
        attempt.show(step)
        context = attempt.session.context
        attempt.span.event(str(step.WhichOneof("step")))
        event = context.events.pairing(step, time.time_ns() // 1000, attempt.span.traceparent)
        with suppress(MeshError):  # what is shown matters more
            # Not posted: it would be held back, and come after the change of state that follows it
            context.host.journal.write(context.ref, event)

    def _finish(self, attempt: Attempt, step: pb.PairResponse) -> None:
        self._show(attempt, step)


def _paired(session: Session) -> pb.PairResponse:
    return pb.PairResponse(paired=pb.PairSuccess(session=view(session)))
