"""Decides whether a call may be served, by all limits that it meets.

While Redis does not answer each process counts by itself, except instance operations, which are refused: what
they make is there to stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesh_core import ids
from mesh_core.errors import InvalidField, MeshError, ResourceExhausted, Unavailable
from mesh_core.ids import Prefix
from mesh_core.metrics import counters
from mesh_core.rpc.auth import Identity
from mesh_core.rpc.auth.identity import BOOTSTRAP_KEY_ID
from mesh_core.rpc.limits.bucket import Bucket
from mesh_core.rpc.limits.shared import PAUSE_SECONDS, Asked, Counts
from mesh_core.settings import CALL_CLASSES, CallLimit, Limits, LimitsSettings, parse_limits
from sessionmesh.v1.authorization_pb2 import (
    CALL_CLASS_INSTANCE_OPERATION,
    CALL_CLASS_MESSAGE,
    CALL_CLASS_QUERY,
    CallClass,
)

REFUSED = counters(
    "mesh_limits_refused_total",
    "Calls over a rate limit, by what the limit is of and the call's class.",
    answers="Whose calls are refused for their rate?",
    limit=("account", "key", "key_address", "tenant"),
    call_class=CALL_CLASSES,
)
ALONE = counters(
    "mesh_limits_uncounted_total",
    "Calls served that only this process counted.",
    answers="Do the rate limits hold for the whole mesh?",
    call_class=CALL_CLASSES,
)
MAX_BUCKETS = 50_000
"""Limits that this process remembers; those that it forgets are counted in Redis alone."""

Buckets = tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """Who calls, from where ("" when no limit asks for it), and what."""

    identity: Identity
    source: str
    call_class: CallClass.ValueType


class CallLimiter:
    """The limits of one process. `operations` counts instance operations, and waits longer than `counts`."""

    def __init__(self, settings: LimitsSettings, counts: Counts, operations: Counts) -> None:
        self._counts = counts
        self._operations = operations
        self._account = parse_limits("account", settings.account)
        self._tenant = parse_limits("tenant", settings.tenant)
        self._key = parse_limits("key", settings.key)
        self._key_address = parse_limits("key_address", settings.key_address)
        self._buckets: dict[str, Bucket] = {}
        self._found: dict[tuple[str, int | None, str, str, CallClass.ValueType], Buckets] = {}

    @property
    def by_address(self) -> bool:
        """Whether a limit asks for the source address."""
        return bool(self._key_address)

    def admit(self, call: Counted, account_id: str) -> bool:
        """Count one call, if that takes no waiting; False when `wait` must."""
        buckets = self._buckets_of(call, account_id)
        now = time.monotonic()
        for bucket in buckets:
            if not bucket.has(1, now):
                return False
        for bucket in buckets:
            bucket.spend(1)
        return True

    async def wait(self, call: Counted, account_id: str) -> None:
        """Count one call. Raises `ResourceExhausted` RATE_LIMITED, and for an instance operation that cannot
        be counted `Unavailable`.
        """
        refusal = (await self.admit_all(call, (account_id,)))[0]
        if refusal is not None:
            raise refusal

    async def admit_all(self, call: Counted, account_ids: Sequence[str]) -> list[MeshError | None]:
        """Count a call for each account, all in one round trip at most as a rule; why each is refused."""
        wanted = [self._buckets_of(call, account_id) for account_id in account_ids]
        refusals: list[MeshError | None] = [None] * len(wanted)
        pending: Iterable[int] = range(len(wanted))
        while left := self._settle(wanted, pending, refusals, call):
            lacking = _lacking(wanted, left)
            pending = left
            if not lacking:  # time has given what was lacking
                continue
            asking = next((bucket.asking for bucket in lacking if bucket.asking is not None), None)
            if asking is not None:
                for bucket, calls in lacking.items():
                    if bucket.asking is not None:
                        bucket.wanted += calls
                await asyncio.wait([asking])
            elif not await self._ask(self._counts_of(call), lacking):
                for at in left:
                    refusals[at] = _alone(wanted[at], call)
                break
        return refusals

    def _settle(
        self,
        wanted: list[Buckets],
        pending: Iterable[int],
        refusals: list[MeshError | None],
        call: Counted,
    ) -> list[int]:
        """Grant and refuse what can be; what is left must be asked for."""
        now = time.monotonic()
        left = []
        for at in pending:
            lacking = [bucket for bucket in wanted[at] if not bucket.has(1, now)]
            if not lacking:
                for bucket in wanted[at]:
                    bucket.spend(1)
                continue
            over = next((bucket for bucket in lacking if bucket.refused_until > now), None)
            if over is None:
                left.append(at)
            else:
                refusals[at] = _refusal(over, call, over.refused_until - now)
        return left

    def _counts_of(self, call: Counted) -> Counts:
        return self._operations if call.call_class == CALL_CLASS_INSTANCE_OPERATION else self._counts

    async def _ask(self, counts: Counts, lacking: dict[Bucket, int]) -> bool:
        """Ask for what is needed, and a part in advance; False when there is no answer."""
        if not counts.available:
            return False
        now = time.monotonic()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = []
        for bucket, calls in lacking.items():
            want = min(max(calls + bucket.wanted, bucket.part), bucket.calls)
            asked.append(Asked(bucket, bucket.tell(now), calls, want))
            bucket.asking, bucket.wanted = done, 0
        try:
            granted = await counts.take(asked)
            if granted is None:
                return False
            now = time.monotonic()
            for one, answer in zip(asked, granted, strict=True):
                one.bucket.lease(answer.calls, now)
                if answer.retry_after:
                    one.bucket.refused_until = now + answer.retry_after
            return True
        finally:
            for bucket in lacking:
                bucket.asking = None
            done.set_result(None)

    def _buckets_of(self, call: Counted, account_id: str) -> Buckets:
        identity = call.identity
        if len(account_id) != ids.LENGTH:
            account_id = ""  # it is refused as such, and of any size: not for a memory of thousands
        known_as = identity.key_id, identity.calls_per_second, call.source, account_id, call.call_class
        found = self._found.get(known_as)
        if found is None:
            if account_id and not _is_account(account_id):
                return self._buckets_of(call, "")
            if len(self._found) >= MAX_BUCKETS:
                self._found.clear()
            found = tuple(self._limits_of(call, account_id, CLASS_NAMES[call.call_class]))
            self._found[known_as] = found
        return found

    def _limits_of(self, call: Counted, account_id: str, name: str) -> Iterable[Bucket]:
        identity = call.identity
        key = identity.key_id
        if key == BOOTSTRAP_KEY_ID:
            return  # whoever has it sets the limits; and it is there for when nothing else works
        if identity.tenant_id is None:  # an administrator: of no tenant, and trusted with any account
            tag = key
        else:
            tag = ids.encode(Prefix.TENANT, identity.tenant_id)
            if account_id:
                yield from self._limit("account", tag, account_id, name, self._account)
            if identity.calls_per_second is None:
                yield from self._limit("tenant", tag, tag, name, self._tenant)
            else:
                every = CallLimit(identity.calls_per_second, 1.0)
                yield self._bucket("tenant", tag, tag, "call", every)
        yield from self._limit("key", tag, key, name, self._key)
        if call.source:
            yield from self._limit("key_address", tag, f"{key}@{call.source}", name, self._key_address)

    def _limit(self, kind: str, tag: str, subject: str, name: str, limits: Limits) -> Iterable[Bucket]:
        if name in limits:
            yield self._bucket(kind, tag, subject, name, limits[name])

    def _bucket(self, kind: str, tag: str, subject: str, name: str, limit: CallLimit) -> Bucket:
        redis_key = f"mesh:limit:{{{tag}}}:{kind}:{subject}:{name}"
        bucket = self._buckets.get(redis_key)
        if bucket is None or (bucket.calls, bucket.seconds) != (limit.calls, limit.seconds):
            if len(self._buckets) >= MAX_BUCKETS:
                self._forget()
            exact = name == CLASS_NAMES[CALL_CLASS_INSTANCE_OPERATION]
            bucket = Bucket(redis_key, f"{kind}:{subject}", limit, exact=exact)
            self._buckets[redis_key] = bucket
        return bucket

    def _forget(self) -> None:
        """Forget the idle ones, or the older half where these are few: looking at all is not to be repeated
        for each new one.
        """
        now = time.monotonic()
        idle = [key for key, bucket in self._buckets.items() if bucket.idle(now)]
        many = len(idle) >= MAX_BUCKETS // 4
        for key in idle if many else list(self._buckets)[: MAX_BUCKETS // 2]:
            del self._buckets[key]
        self._found.clear()


def _is_account(account_id: str) -> bool:
    try:
        ids.decode(Prefix.ACCOUNT, account_id, "account_id")
    except InvalidField:
        return False
    return True


def _lacking(wanted: list[Buckets], left: list[int]) -> dict[Bucket, int]:
    """The limits that have too little, with the calls that they are wanted for."""
    now = time.monotonic()
    needed: dict[Bucket, int] = {}
    for at in left:
        for bucket in wanted[at]:
            needed[bucket] = needed.get(bucket, 0) + 1
    return {bucket: calls for bucket, calls in needed.items() if not bucket.has(calls, now)}


def _refusal(over: Bucket, call: Counted, retry_after: float) -> MeshError:
    kind = over.name.partition(":")[0]
    name = CLASS_NAMES[call.call_class]
    REFUSED.labels(kind, name).inc()
    what = "calls" if over.redis_key.endswith(":call") else f"calls of class {name.upper()}"
    return ResourceExhausted(
        f"{over.name}: more than {over.calls:,} {what} in {over.seconds:g} s",
        "RATE_LIMITED",
        quota=over.name,
        retry_after=retry_after,
    )


def _alone(buckets: Buckets, call: Counted) -> MeshError | None:
    """Count a call in this process alone; why it is refused."""
    if call.call_class == CALL_CLASS_INSTANCE_OPERATION:
        return Unavailable(
            "limits of instance operations cannot be counted now",
            "BACKEND_UNAVAILABLE",
            retry_after=PAUSE_SECONDS,
        )
    now = time.monotonic()
    lacking = [bucket for bucket in buckets if not bucket.has(1, now)]
    for bucket in lacking:
        if wait := bucket.wait_alone(now):
            bucket.refused_until = now + wait
            return _refusal(bucket, call, wait)
    for bucket in buckets:
        if bucket in lacking:
            bucket.spend_alone(now)
        else:
            bucket.spend(1)
    ALONE.labels(CLASS_NAMES[call.call_class]).inc()
    return None


CLASS_NAMES: dict[CallClass.ValueType, str] = dict(
    zip((CALL_CLASS_MESSAGE, CALL_CLASS_INSTANCE_OPERATION, CALL_CLASS_QUERY), CALL_CLASSES, strict=True)
)
