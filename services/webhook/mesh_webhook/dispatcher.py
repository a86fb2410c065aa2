"""Makes deliveries: claims what is due, sends it, and completes it.

No transaction is open while an endpoint is waited for. A claim lapses after its lease; what a killed process
had claimed is then sent again, with the same id and the same bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.telemetry import tracing
from mesh_webhook import deliveries, disabling, metrics
from mesh_webhook.away import AWAY
from mesh_webhook.catalogue import Catalogue
from mesh_webhook.completions import Completions
from mesh_webhook.deliveries import Claimed, Completion
from mesh_webhook.retries import RetrySchedule
from mesh_webhook.sealed_secrets import SecretKeys
from mesh_webhook.sender import Answer, Request, Sender
from mesh_webhook.settings import WebhookSettings

logger = structlog.get_logger(__name__)

GONE = 410
SLOW_DOWN = frozenset({429, 502, 503, 504})
"""With a Retry-After, these keep all of the endpoint's deliveries back."""


class Dispatcher:
    """The deliveries of this process. `run` it as a task; `poke` it when there may be something due."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        catalogue: Catalogue,
        keys: SecretKeys,
        sender: Sender,
        completions: Completions,
        settings: WebhookSettings,
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._keys = keys
        self._sender = sender
        self._completions = completions
        self._settings = settings
        self._schedule = RetrySchedule(settings.retry_schedule)
        self._wake = asyncio.Event()
        self._in_flight: Counter[UUID] = Counter()
        self._attempts: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] | None = None
        self._draining = False

    def poke(self) -> None:
        """There may be deliveries that are due."""
        self._wake.set()

    async def run(self) -> None:
        """Until `drain` is called. Raises what an attempt raised that it should not have."""
        self._failure = asyncio.get_running_loop().create_future()
        while not self._draining:
            self._wake.clear()
            claimed = await self._claim()
            for delivery in claimed:
                self._start(delivery)
            if claimed:
                continue
            try:
                async with asyncio.timeout(_POLL):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if self._failure.done():
                self._failure.result()

    async def drain(self, seconds: float) -> None:
        """Claim no more, and let requests in flight end for at most `seconds`; other claims lapse."""
        self._draining = True
        self._wake.set()
        if self._attempts:
            _, late = await asyncio.wait(self._attempts, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                logger.warning("deliveries were cut off and will be made again", count=len(late))
                await asyncio.wait(late)

    async def _claim(self) -> list[Claimed]:
        settings = self._settings
        room = settings.in_flight - self._in_flight.total()
        if room <= 0:
            return []
        try:
            return await deliveries.claim(
                self._pool, settings.lease_seconds, room, settings.in_flight_per_endpoint, self._in_flight
            )
        except AWAY as error:
            logger.warning("deliveries cannot be claimed", error=repr(error))
            await asyncio.sleep(_POLL)
            return []

    def _start(self, delivery: Claimed) -> None:
        self._in_flight[delivery.endpoint] += 1
        metrics.in_flight.inc()
        latest = time.monotonic() + self._settings.lease_seconds - self._settings.timeout_seconds
        task = asyncio.create_task(self._deliver(delivery, latest), name=f"deliver {delivery.webhook_id}")
        self._attempts.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
            self._wake.set()

    async def _deliver(self, delivery: Claimed, latest: float) -> None:
        try:
            answer = await self._attempt(delivery, latest)
        except AWAY as error:
            logger.warning("delivery left to the next claim", delivery=delivery.webhook_id, error=repr(error))
            return
        finally:
            self._in_flight[delivery.endpoint] -= 1
            if not self._in_flight[delivery.endpoint]:
                del self._in_flight[delivery.endpoint]
            metrics.in_flight.dec()
            self._wake.set()
        if answer is not None:
            await self._settle(delivery, answer)

    async def _attempt(self, delivery: Claimed, latest: float) -> Answer | None:
        """None when there is nothing to attempt any more."""
        endpoint = await self._catalogue.at_version(delivery.endpoint, delivery.endpoint_version)
        if endpoint is None:
            return None
        keys = await self._keys.of(endpoint)
        if (
            time.monotonic() > latest
        ):  # this process stood still: by now the claim may lapse before the answer comes
            logger.warning("claim lapsed before the attempt", delivery=delivery.webhook_id)
            return None
        if delivery.tries == 0:
            delay = datetime.now(UTC) - delivery.create_time
            metrics.first_attempt_delay.observe(max(0.0, delay.total_seconds()))
        span = tracing.start_span("mesh.webhook.deliver", kind="client", parent=delivery.traceparent)
        request = Request(
            endpoint.url, endpoint.headers, delivery.webhook_id, delivery.body, keys, span.traceparent
        )
        answer = await self._sender.send(request)
        metrics.attempt_duration.observe(answer.seconds)
        if span.recorded:
            span.set("webhook.id", delivery.webhook_id)
            span.set("webhook.endpoint", endpoint.name)
            span.set("webhook.attempt", delivery.tries + 1)
            span.set("http.response.status_code", answer.status)
            if not answer.succeeded:
                span.fail(answer.error)
        span.end()
        return answer

    async def _settle(self, delivery: Claimed, answer: Answer) -> None:
        completion = self._judge(delivery, answer)
        if not await self._completions.complete(completion):
            metrics.attempts.labels("lapsed").inc()
            return
        if answer.succeeded:
            metrics.attempts.labels("succeeded").inc()
            return
        metrics.attempts.labels("retrying" if completion.wait is not None else "failed").inc()
        if completion.wait is not None:
            return
        try:
            await self._disable(delivery.endpoint, answer)
        except AWAY as error:  # the endpoint's next delivery will say the same
            logger.warning("endpoint cannot be disabled", endpoint=str(delivery.endpoint), error=repr(error))

    async def _disable(self, endpoint: UUID, answer: Answer) -> None:
        """A delivery has failed for good: its endpoint may be at its end too."""
        if answer.status == GONE:
            if await disabling.disable(self._pool, endpoint, "it answered 410 Gone"):
                metrics.endpoints_disabled.labels("gone").inc()
        elif await disabling.disable_if_failing(self._pool, endpoint, self._settings.disable_after_days):
            metrics.endpoints_disabled.labels("failing").inc()

    def _judge(self, delivery: Claimed, answer: Answer) -> Completion:
        wait = hold = None
        if not answer.succeeded and answer.status != GONE:
            if answer.status in SLOW_DOWN:
                hold = answer.retry_after
            wait = self._schedule.wait_after(delivery.tries + 1, at_least=answer.retry_after or 0.0)
        return Completion(delivery.id, delivery.token, answer, wait, hold)


_POLL = 0.5
