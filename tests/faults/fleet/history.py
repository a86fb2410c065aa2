"""What may stand in the database's history, and what may not. Pure: changes in, sentences out.

The changes are those of the ownership tables and of what owners write, in the order of their commits
(`recorder.py` gathers them). The rules are those of the fence, looked at from outside:

- The epoch of a shard rises by one with each tenure, and never falls.
- A shard is taken only from a holder that released it or was judged dead.
- Every row is written at the epoch of its shard's present tenure, before that tenure was released and before
  its holder was judged dead. A row of an older epoch is what a fence exists to prevent.
- A message's status changes as the table in `mesh_core.message_status` says, step by step from what it was.
- One accepted request is one message, and the caller was told of that one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mesh_core.message_status import may_become
from sessionmesh.v1 import message_pb2


class Kind(Enum):
    """What changed."""

    FENCE = "fence"
    EXPIRED = "expired"
    MESSAGE = "message"
    STATUS = "status"
    EVENT = "event"
    SESSION = "session"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one row. What a kind does not have is empty.

    `key` is a message, event or account; of EXPIRED it is the incarnation. `before` and `status` are the
    message's statuses.
    """

    kind: Kind
    shard: int = -1
    key: str = ""
    epoch: int = 0
    holder: str = ""
    released: bool = False
    before: int = 0
    status: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is once all is quiet, of some accounts.

    `requests` has the message of each (account, request id), `statuses` that of every outbound message.
    """

    requests: Mapping[tuple[str, str], str]
    statuses: Mapping[str, int]
    outbox: Collection[str] = ()


def check_changes(changes: Iterable[Change]) -> list[str]:
    """A sentence for each violation, in the order of the commits."""
    replay = _Replay()
    for change in changes:
        replay.take(change)
    return replay.findings


def check_outcome(outcome: Outcome, acknowledged: Mapping[tuple[str, str], str]) -> list[str]:
    """A sentence for each violation. `acknowledged` is what callers were told: requests as in `Outcome`."""
    findings = []
    for request, message in acknowledged.items():
        stored = outcome.requests.get(request)
        if stored != message:
            findings.append(f"request {request} was answered with {message}, and {stored} is stored")
        if message not in outcome.statuses:
            findings.append(f"acknowledged message {message} is not there")
        elif outcome.statuses[message] != message_pb2.MESSAGE_STATUS_DELIVERED:
            status = message_pb2.MessageStatus.Name(
                message_pb2.MessageStatus.ValueType(outcome.statuses[message])
            )
            findings.append(f"acknowledged message {message} ended as {status}")
    named = Counter(outcome.requests.values())
    findings += [f"{count} requests have message {message}" for message, count in named.items() if count > 1]
    findings += [f"message {message} has no request" for message in outcome.statuses if message not in named]
    findings += [
        f"request {request} has no message"
        for request, m in outcome.requests.items()
        if m not in outcome.statuses
    ]
    findings += [f"message {message} is still in the outbox" for message in outcome.outbox]
    return findings


@dataclass(slots=True)
class _Tenure:
    epoch: int = 0
    holder: str = ""
    released: bool = True


@dataclass(slots=True)
class _Replay:
    findings: list[str] = field(default_factory=list)
    _tenures: dict[int, _Tenure] = field(default_factory=dict)
    _expired: set[str] = field(default_factory=set)
    _statuses: dict[str, int] = field(default_factory=dict)

    def take(self, change: Change) -> None:
        match change.kind:
            case Kind.EXPIRED:
                self._expired.add(change.key)
            case Kind.FENCE:
                self._fence(change)
            case Kind.STATUS:
                self._status(change)
            case Kind.MESSAGE:
                if change.key in self._statuses:
                    self.findings.append(f"message {change.key} was stored twice")
                self._statuses[change.key] = change.status
                self._row(change)
            case _:
                self._row(change)

    def _fence(self, change: Change) -> None:
        before = self._tenures.get(change.shard, _Tenure())
        after = _Tenure(change.epoch, change.holder, change.released)
        self._tenures[change.shard] = after
        name = f"shard {change.shard}"
        if after.epoch == before.epoch:
            if after.holder != before.holder:
                self.findings.append(f"{name} went to {after.holder} without a new epoch ({after.epoch})")
            elif before.released and not after.released:
                self.findings.append(f"{name} was taken again at epoch {after.epoch}, which was released")
        elif after.epoch != before.epoch + 1:
            self.findings.append(f"{name} went from epoch {before.epoch} to {after.epoch}")
        elif not (before.released or before.holder == after.holder or before.holder in self._expired):
            self.findings.append(f"{name} was taken by {after.holder} from {before.holder}, which lived")

    def _row(self, change: Change) -> None:
        tenure = self._tenures.get(change.shard, _Tenure())
        name = f"{change.kind.value} {change.key} of shard {change.shard} was written at epoch {change.epoch}"
        if change.epoch != tenure.epoch:
            self.findings.append(f"{name}, the shard's was {tenure.epoch}")
        elif tenure.released:
            self.findings.append(f"{name}, which was released")
        elif tenure.holder in self._expired:
            self.findings.append(f"{name}, whose holder {tenure.holder} was judged dead")

    def _status(self, change: Change) -> None:
        known = self._statuses.get(change.key)
        if known is not None and known != change.before:
            self.findings.append(f"message {change.key} changed from {change.before}, and was {known}")
        self._statuses[change.key] = change.status
        if not may_become(change.before, change.status):
            self.findings.append(f"message {change.key} went from status {change.before} to {change.status}")
