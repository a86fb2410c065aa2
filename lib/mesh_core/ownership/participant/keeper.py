"""What a node may run, decided synchronously: no I/O, and time comes in as `now` (boottime, seconds).

Taking a shard over needs both authorities, etcd and Postgres; keeping it needs either. Every instant counts
from before the request was *sent*: the authority counts from no earlier.

Two threads share it: the keeper thread, which hears the authorities, and the event loop, which claims and
releases. Whoever decides something from it and then changes it holds `lock` from the one to the other.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Timings:
    """The defaults are for production; tests shrink them together (etcd grants no lease under 2 s)."""

    ttl: int = 7
    """A lease or beat that is older has expired, as etcd and Postgres judge it."""
    beat: float = 1.5
    """Between keepalives to etcd, and between beats to Postgres."""
    attempt: float = 1.0
    """One try of a beat."""
    soft: float = 4.5
    """No new work begins on a shard when its authorities have been silent for longer than this."""
    hard: float = 6.0
    """Sockets of such a shard are closed: earlier than anyone may take it over."""
    settle: float = 0.05
    """Between seeing that the table should change and changing it, so that one participant does it, once."""
    first_settle: float = 0.5
    """The same while there is no table yet: the nodes of a new cluster start one after the other."""


class Phase(IntEnum):
    """A shard's way through this node. From RUNNING on it is held: sessions may be live."""

    CLAIMED = 1  # the owner key is mine, the fence not yet
    TAKEN = 2  # the fence is mine too, the key still says CLAIMED
    RUNNING = 3
    STOPPING = 4  # being handed off, sockets may still be open
    STOPPED = 5  # sockets closed; fence and key are being given back


@dataclass(slots=True, eq=False)
class Tenure:
    """One stay of a shard on this node, from claim to release; a later stay is another object."""

    shard: int
    claim: int
    """Claim number: rises with every claim of this incarnation."""
    revision: int
    """mod_revision of the owner key as last confirmed."""
    lease: int
    """The lease under which the key was last confirmed mine; 0 when it must be confirmed anew."""
    phase: Phase = Phase.CLAIMED
    epoch: int = 0
    retry_at: float = 0.0
    """When to ask Postgres again while another node holds the fence."""
    waiting_since: float = 0.0
    """Since when this node waits for another one to release the shard; 0.0 while it does not."""
    holder: str = ""
    """That node's incarnation, once the key tells of it."""
    claimed_at: int = field(default_factory=time.time_ns)
    taken_at: int = 0
    """For traces, in nanoseconds since the epoch."""

    @property
    def held(self) -> bool:
        return self.phase in (Phase.RUNNING, Phase.STOPPING)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a passed deadline took: `lost` shards ran and stop at once, `forgotten` ones had not run yet."""

    lost: list[int] = field(default_factory=list)
    forgotten: list[Tenure] = field(default_factory=list)
    nothing_left: bool = False
    """Some were lost, and nothing else runs here."""


def may_run(*, held: bool, counts_etcd: bool, counts_pg: bool) -> bool:
    """The rule: a node may run what it holds while either authority vouches for it."""
    return held and (counts_etcd or counts_pg)


class Keeper:
    """The two authorities' deadlines and the shards' tenures.

    Before an authority's answer is applied, `drop(now)` must be called and its result acted on: a shard whose
    deadline has passed stays lost even if the answer would have saved it, as another node may have it by now.
    """

    def __init__(self, timings: Timings) -> None:
        self.timings = timings
        self.lock = threading.RLock()
        self.tenures: dict[int, Tenure] = {}
        self.lease = 0
        self.refused = False
        self._lease_since = math.inf
        self._etcd_sent = -math.inf
        self._pg_sent = -math.inf

    def lease_granted(self, lease: int, sent: float) -> list[Tenure]:
        """A new lease; keys under the old one no longer count. Returns the tenures that end, not run yet."""
        with self.lock:
            ended = self.lease_lost()
            self.lease = lease
            self._etcd_sent = self._lease_since = sent
            return ended

    def lease_renewed(self, lease: int, sent: float, now: float) -> None:
        with self.lock:
            if lease != self.lease:
                return
            if now >= self._etcd_sent + self.timings.hard:
                self._lease_since = sent
            self._etcd_sent = max(self._etcd_sent, sent)

    def lease_lost(self) -> list[Tenure]:
        """Returns the tenures that end with the lease: those not run yet."""
        with self.lock:
            self.lease = 0
            self._etcd_sent, self._lease_since = -math.inf, math.inf
            for tenure in self.tenures.values():
                tenure.lease = 0
            return self._forget(tenure for tenure in self.tenures.values() if tenure.phase < Phase.RUNNING)

    def beat_answered(self, sent: float) -> None:
        with self.lock:
            if not self.refused:
                self._pg_sent = max(self._pg_sent, sent)

    def beat_refused(self) -> None:
        """Postgres will never count this incarnation as alive again."""
        with self.lock:
            self.refused = True
            self._pg_sent = -math.inf

    def counts_etcd(self, tenure: Tenure, now: float) -> bool:
        return tenure.lease == self.lease != 0 and now < self._etcd_sent + self.timings.hard

    def counts_pg(self, now: float) -> bool:
        """Of a held shard: it was taken by this incarnation, or it would not be held."""
        return now < self._pg_sent + self.timings.hard

    def may_run(self, tenure: Tenure, now: float) -> bool:
        return may_run(
            held=tenure.held, counts_etcd=self.counts_etcd(tenure, now), counts_pg=self.counts_pg(now)
        )

    def epoch(self, shard: int, now: float) -> int | None:
        """The epoch at which `shard` may run here now."""
        tenure = self.tenures.get(shard)
        return tenure.epoch if tenure is not None and self.may_run(tenure, now) else None

    def admits(self, shard: int, now: float) -> bool:
        """Whether new work may begin: no handoff, and an authority was heard within the soft deadline."""
        tenure = self.tenures.get(shard)
        if tenure is None or tenure.phase is not Phase.RUNNING:
            return False
        return self.may_run(tenure, now + self.timings.hard - self.timings.soft)

    def etcd_fresh(self, now: float) -> bool:
        """Heard of etcd within the soft deadline."""
        return self.lease != 0 and now < self._etcd_sent + self.timings.soft

    def pg_fresh(self, now: float) -> bool:
        return now < self._pg_sent + self.timings.soft

    def unready(self, now: float) -> str:
        """Why nothing can run here, in a few words; "" when something does, or may soon: what is held needs
        either authority, and to take anything over needs both.
        """
        with self.lock:
            if any(tenure.held for tenure in self.tenures.values()):
                return ""
        if not self.etcd_fresh(now):
            return "it holds no shards: its lease is lost, etcd does not answer"
        return "" if self.pg_fresh(now) else "it holds no shards and can take none: Postgres does not answer"

    def unbroken(self, now: float) -> bool:
        """Whether this node's lease held without a gap for a TTL: any node whose keys are missing in etcd had
        that long to write them again.
        """
        return self.etcd_fresh(now) and now - self._lease_since >= self.timings.ttl

    def drop(self, now: float) -> Dropped:
        """Ends every tenure whose deadline has passed."""
        with self.lock:
            lost: list[int] = []
            forgotten: list[Tenure] = []
            if not self.counts_pg(
                now
            ):  # else all that is held may run; this is called often and must cost little
                lost = [t.shard for t in self.tenures.values() if t.held and not self.may_run(t, now)]
                for shard in lost:
                    del self.tenures[shard]
            if self.lease == 0 or now >= self._etcd_sent + self.timings.hard:
                forgotten = self._forget(t for t in self.tenures.values() if t.phase < Phase.RUNNING)
            return Dropped(lost, forgotten, bool(lost) and not any(t.held for t in self.tenures.values()))

    def next_drop(self) -> float:
        """The earliest instant at which `drop` could take a held shard; infinity when none is held."""
        with self.lock:
            etcd, pg = self._etcd_sent + self.timings.hard, self._pg_sent + self.timings.hard
            instants = (
                max(etcd, pg) if tenure.lease == self.lease != 0 else pg
                for tenure in self.tenures.values()
                if tenure.held
            )
            return min(instants, default=math.inf)

    def longest_wait(self, now: float) -> float:
        """Seconds for which the longest wait for another node's release has gone on."""
        with self.lock:
            waiting = [t.waiting_since for t in self.tenures.values() if t.phase is Phase.CLAIMED]
        return max((now - since for since in waiting if since), default=0.0)

    def silence(self, now: float) -> tuple[float, float]:
        """Seconds since the last beat was sent that etcd, and that Postgres, answered."""
        return now - self._etcd_sent, now - self._pg_sent

    def count(self, phase: Phase) -> int:
        """How many shards are so far on their way."""
        with self.lock:
            return sum(tenure.phase is phase for tenure in self.tenures.values())

    def running(self) -> Mapping[int, int]:
        """Epochs of the shards that are held."""
        with self.lock:
            return {tenure.shard: tenure.epoch for tenure in self.tenures.values() if tenure.held}

    def _forget(self, tenures: Iterable[Tenure]) -> list[Tenure]:
        ended = list(tenures)
        for tenure in ended:
            del self.tenures[tenure.shard]
        return ended
