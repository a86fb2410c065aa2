"""etcd and Postgres for a run of the tests: real, but the kernel decides when their data reach the disk.

What a server wrote before it was killed is then still there: it lies in the kernel's page cache, which no
process takes along. Only a machine that loses power would lose it, and no test shows that. Tests that kill a
server still let it sync as in production (`tests/faults`, `tests/integration/test_embedded.py`): a kill in
the midst of a write may tear a page of Postgres in two, which only `full_page_writes` heals.
"""

from __future__ import annotations

from pathlib import Path

from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres
from mesh_core.etcd import Etcd
from mesh_core.settings import EtcdSettings

UNSYNCED = {
    "fsync": "off",
    "full_page_writes": "off",
    # A copied database is then not written to the log too: half the cost of the databases that tests make.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class UnsyncedEtcd(EmbeddedEtcd):
    """A lone etcd whose writes are not waited for to reach the disk."""

    async def _command(self) -> list[str]:
        return [*await super()._command(), "--unsafe-no-fsync"]


def unsynced_postgres(state: Path) -> EmbeddedPostgres:
    """Commits are answered when they are in the log, as in production, but the log is not synced.

    It remembers when each transaction committed, which the checks of the history read.
    """
    return EmbeddedPostgres(state, {"track_commit_timestamp": "on", **UNSYNCED})


def patient_etcd(etcd: EtcdSettings) -> Etcd:
    """A client for what a test itself reads and writes: it waits for an etcd that a busy machine holds up."""
    return Etcd(etcd, timeout=30.0)


def patient_etcd_at(endpoint: str) -> Etcd:
    """The same, of `host:port`, in plain text and without a user."""
    return patient_etcd(EtcdSettings(endpoints=(endpoint,)))
