"""Attempts deliveries: claims what is due, sends it, and stores the result.

No transaction is open while an endpoint is waited for. A claim lapses after its lease: what a killed process
had claimed is then sent again, with the same id and the same bytes.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.metrics import counters, gauge, histogram
from mesh_core.signal import Signal
from mesh_core.telemetry import tracing
from mesh_core.usage.counts import used_by
from mesh_core.validation import to_timestamp
from mesh_webhook.deliveries import claims
from mesh_webhook.deliveries.claims import ClaimedDelivery, Completion
from mesh_webhook.deliveries.completions import UNSTORABLE, CompletionWriter
from mesh_webhook.deliveries.http_sender import AttemptResult, HttpSender, OutgoingRequest
from mesh_webhook.deliveries.retries import RetrySchedule
from mesh_webhook.deliveries.settings import WebhookSettings
from mesh_webhook.deliveries.slots import Share, Slots
from mesh_webhook.endpoints import disabling
from mesh_webhook.endpoints.endpoint_cache import EndpointCache
from mesh_webhook.endpoints.secrets import EndpointSecrets

logger = structlog.get_logger(__name__)

GONE = 410
BACK_PRESSURE = frozenset({429, 502, 503, 504})
"""Statuses whose Retry-After holds back all deliveries of the endpoint, and not only the one that failed."""

ATTEMPTS = counters(
    "mesh_webhook_attempts_total",
    "Attempts by what became of the delivery.",
    answers="Do webhooks succeed?",
    outcome=["succeeded", "retrying", "failed", "lapsed"],
)
ATTEMPT_DURATION = histogram(
    "mesh_webhook_attempt_duration_seconds",
    "From the first byte sent to the whole answer.",
    answers="How fast do receivers answer?",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30),
)
FIRST_ATTEMPT_DELAY = histogram(
    "mesh_webhook_first_attempt_delay_seconds",
    "From the delivery's commit to its first attempt.",
    answers="How fast are webhooks?",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
IN_FLIGHT = gauge(
    "mesh_webhook_requests_in_flight",
    "Requests that wait for an answer.",
    answers="Do slow receivers take all the room?",
)
IN_FLIGHT.set(0)
ENDPOINTS_DISABLED = counters(
    "mesh_webhook_endpoints_disabled_total",
    "Endpoints disabled by the mesh.",
    answers="Who gets no webhooks any more?",
    cause=["gone", "failing"],
)


class Dispatcher:
    """The deliveries of this process; `run` it as a task. Notify `due` when a delivery may be due."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        endpoints: EndpointCache,
        secrets: EndpointSecrets,
        sender: HttpSender,
        completions: CompletionWriter,
        due: Signal,
        settings: WebhookSettings,
    ) -> None:
        self._pool = pool
        self._endpoints = endpoints
        self._secrets = secrets
        self._sender = sender
        self._completions = completions
        self._settings = settings
        self._schedule = RetrySchedule(settings.retry_schedule)
        self._due = due
        self._backoff = Backoff(_POLL_SECONDS, _MAX_PAUSE_SECONDS)
        self._slots = Slots(settings.in_flight, settings.in_flight_per_endpoint)
        self._turn = UUID(bytes(16))
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def run(self) -> None:
        """Runs until `drain` is called."""
        while not self._draining:
            seen, began = self._due.version, time.monotonic()
            claimed = await self._claim()
            for delivery in claimed:
                self._start(delivery)
            if claimed:  # as much rest as work: where claims take long, others need the database, too
                await asyncio.sleep(time.monotonic() - began)
                continue
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._due.wait(since=seen)
            except TimeoutError:
                pass

    async def drain(self, seconds: float) -> None:
        """Claims no more, and waits at most `seconds` for requests in flight; the claims of others lapse."""
        self._draining = True
        self._due.notify()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                logger.warning("deliveries were cut off and will be made again", count=len(late))
                await asyncio.wait(late)

    async def _claim(self) -> list[ClaimedDelivery]:
        slots = self._slots
        if slots.free <= 0:
            return []
        try:
            due = await claims.due(self._pool, self._turn, slots.full_tenants, slots.full_endpoints)
            shares = slots.share_out(due, _CLAIM_AT_ONCE, _CLAIM_OF_TENANT)
            if not shares:
                return []
            self._turn = next(one.tenant for one in reversed(due) if one.endpoint in shares)
            claimed = await self._take(shares)
        except UNAVAILABLE as error:
            logger.warning("deliveries cannot be claimed", error=repr(error))
            await asyncio.sleep(self._backoff.next())
            return []
        self._backoff.reset()
        return claimed

    async def _take(self, shares: dict[UUID, Share]) -> list[ClaimedDelivery]:
        """Claims; where one endpoint's rows make the claim fail, those of the others go by themselves."""
        try:
            return await claims.take(self._pool, self._settings.lease_seconds, shares)
        except UNSTORABLE:
            if len(shares) == 1:
                logger.exception("an endpoint's deliveries cannot be claimed", endpoints=[*map(str, shares)])
                return []
        each = [{endpoint: share} for endpoint, share in shares.items()]
        return [delivery for one in each for delivery in await self._take(one)]

    def _start(self, delivery: ClaimedDelivery) -> None:
        self._slots.begin(delivery.tenant, delivery.endpoint, retry=delivery.is_retry)
        IN_FLIGHT.inc()
        start_by = time.monotonic() + self._settings.lease_seconds - self._settings.timeout_seconds
        task = asyncio.create_task(self._deliver(delivery, start_by), name=f"deliver {delivery.webhook_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: ClaimedDelivery, start_by: float) -> None:
        """Attempts one delivery. What goes wrong with it concerns it alone: nothing raises.

        It keeps its slot until the result is stored, so that no more is sent than can be stored.
        """
        result: AttemptResult | None = None
        try:
            result = await self._attempt_or_fail(delivery, start_by)
            if result is not None:
                await self._complete(delivery, result)
        except UNAVAILABLE as error:
            logger.warning("delivery left to the next claim", delivery=delivery.webhook_id, error=repr(error))
        except Exception:  # one delivery's: the others go on
            logger.exception("delivery left to the next claim", delivery=delivery.webhook_id)
        finally:
            answered = None if result is None else result.status is not None
            self._slots.end(delivery.tenant, delivery.endpoint, retry=delivery.is_retry, answered=answered)
            IN_FLIGHT.dec()
            self._due.notify()

    async def _attempt_or_fail(self, delivery: ClaimedDelivery, start_by: float) -> AttemptResult | None:
        """Like `_attempt`; what cannot be attempted, such as with unreadable secrets, is a failed attempt."""
        try:
            return await self._attempt(delivery, start_by)
        except UNAVAILABLE:
            raise
        except Exception:  # the schedule says when again, and for how long
            logger.exception("a delivery cannot be attempted", delivery=delivery.webhook_id)
            return AttemptResult(None, "the mesh cannot make this request", b"", None, datetime.now(UTC), 0.0)

    async def _attempt(self, delivery: ClaimedDelivery, start_by: float) -> AttemptResult | None:
        """Sends the delivery; None when its endpoint was deleted, or it is too late for this claim."""
        endpoint = await self._endpoints.at_version(delivery.endpoint, delivery.endpoint_version)
        if endpoint is None:
            return None
        opened = await self._secrets.opened(endpoint)
        if time.monotonic() > start_by:  # this process was suspended: the claim may lapse during the request
            logger.warning("claim lapsed before the attempt", delivery=delivery.webhook_id)
            return None
        if not delivery.is_retry:
            delay = time.time() - to_timestamp(delivery.create_time).ToNanoseconds() / 1e9
            FIRST_ATTEMPT_DELAY.observe(max(0.0, delay), delivery.traceparent)
        attributes: dict[str, tracing.Attribute] = {
            "http.request.method": "POST",
            "mesh.webhook.id": delivery.webhook_id,
            "mesh.webhook.endpoint": endpoint.public_id,
            "mesh.attempt": delivery.tries + 1,
        }
        with tracing.span(
            "mesh.webhook.deliver", kind="client", parent=delivery.traceparent, attributes=attributes
        ) as span:
            request = OutgoingRequest(
                endpoint.url,
                opened.headers,
                delivery.webhook_id,
                delivery.body,
                opened.keys,
                span.traceparent,
                delivery.marks,
            )
            used_by(delivery.tenant).webhook_attempts += 1
            result = await self._sender.send(request)
            if result.status is not None:
                span.set("http.response.status_code", result.status)
            if not result.succeeded:
                span.fail(result.error)
        ATTEMPT_DURATION.observe(result.seconds, delivery.traceparent)
        return result

    async def _complete(self, delivery: ClaimedDelivery, result: AttemptResult) -> None:
        completion = self._completion(delivery, result)
        if not await self._completions.complete(completion):
            ATTEMPTS.labels("lapsed").inc()
            return
        if result.succeeded:
            ATTEMPTS.labels("succeeded").inc()
            return
        ATTEMPTS.labels("retrying" if completion.retry_in is not None else "failed").inc()
        if completion.retry_in is not None:
            return
        try:
            await self._disable_if_needed(delivery.endpoint, result)
        except UNAVAILABLE as error:  # the next failed delivery of the endpoint will try again
            logger.warning("endpoint cannot be disabled", endpoint=str(delivery.endpoint), error=repr(error))

    async def _disable_if_needed(self, endpoint: UUID, result: AttemptResult) -> None:
        """Disables an endpoint that says it is gone, or all of whose deliveries have failed for days."""
        if result.status == GONE:
            if await disabling.disable(self._pool, endpoint, "it answered 410 Gone"):
                ENDPOINTS_DISABLED.labels("gone").inc()
        elif await disabling.disable_if_failing(self._pool, endpoint, self._settings.disable_after_days):
            ENDPOINTS_DISABLED.labels("failing").inc()

    def _completion(self, delivery: ClaimedDelivery, result: AttemptResult) -> Completion:
        retry_in = hold = None
        if not result.succeeded and result.status != GONE:
            if result.status in BACK_PRESSURE:
                hold = result.retry_after
            retry_in = self._schedule.wait_after(delivery.tries + 1, at_least=result.retry_after or 0.0)
        return Completion(delivery.id, delivery.token, result, retry_in, hold)


_POLL_SECONDS = 0.5
# Quick endpoints of one tenant could take all of the processor. With few at a time, it is asked so often who
# else has something due that they wait for few of them; and whoever else has, gets no fewer for that.
_CLAIM_OF_TENANT = 16
_CLAIM_AT_ONCE = 64
_MAX_PAUSE_SECONDS = 2.0
