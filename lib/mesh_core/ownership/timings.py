"""How long things take in the ownership protocol. All in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """The defaults are for production; tests shrink them together (etcd grants no lease under 2 s)."""

    ttl: int = 7
    """A lease or beat older than this is dead, as etcd and Postgres judge it."""
    beat: float = 1.5
    """Between keepalives to etcd, and between beats to Postgres."""
    attempt: float = 1.0
    """One try of a beat."""
    soft: float = 4.5
    """No new work on a shard whose authorities have been silent for so long."""
    hard: float = 6.0
    """Sockets of such a shard are closed: earlier than anyone may take it over."""
    settle: float = 0.05
    """Between seeing that the table should change and changing it, so that one participant does it, once."""
    first_settle: float = 0.5
    """The same while there is no table yet: the nodes of a new cluster start one after the other."""
