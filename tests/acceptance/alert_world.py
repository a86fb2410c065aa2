"""A mesh that has to fail, the Prometheus that watches it, and the ways to make it fail."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import psutil

from sessionmesh.v1 import account_pb2
from tests.support.alert_rules import alerts
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller
from tests.support.mesh_process import MeshProcess
from tests.support.prometheus_server import PrometheusServer

Function = TypeVar("Function", bound=Callable[..., Any])

FIRE_SECONDS = 60.0
CAUSED: set[str] = set()
"""Every alert that some test causes."""
SERVERS = {"etcd": {"etcd"}, "redis": {"valkey-server", "redis-server"}, "postgres": {"postgres"}}
"""The names of their programs."""


def causes(*names: str) -> Callable[[Function], Function]:
    """What the test makes fire: all rules of these names."""

    def note(function: Function) -> Function:
        CAUSED.update(names)
        function.alerts = frozenset(names)  # type: ignore[attr-defined] # the fixture `watched` reads it
        return function

    return note


@dataclass(slots=True)
class Watched:
    """What a test of alerts has to do with."""

    mesh: MeshProcess
    prometheus: PrometheusServer
    names: frozenset[str]
    """What the test is to make fire."""
    extra_page: str
    """The metrics page of a part with a certificate."""
    fired: set[str] = field(default_factory=set)

    async def fire(self, *names: str) -> None:
        """Wait until all rules of these alerts have fired; without names of all that the test causes."""
        wanted = set(names) or set(self.names - self.fired)
        rules = {(one.name, one.severity) for one in alerts() if one.name in wanted}

        def all_fire() -> bool:
            rules.difference_update(self.prometheus.firing())
            return not rules

        try:
            await eventually(all_fire, FIRE_SECONDS, "alerts")
        except AssertionError as error:
            raise AssertionError(f"still silent: {sorted(rules)}") from error
        self.fired |= wanted

    def quiet(self, *names: str) -> None:
        """None of these fires."""
        assert not self._firing(names)

    async def until_quiet(self, *names: str) -> None:
        """The same, once what another test did is over."""
        await eventually(lambda: not self._firing(names), FIRE_SECONDS, "silence")

    def database(self) -> str:
        url: str = psutil.Process(self.mesh.file.parts["router"].pid).environ()["MESH_DATABASE_URL"]
        return url

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Servers, and parts with their watchdogs, that do not answer for as long as this lasts."""
        stopped = [process for name in names for process in self._processes(name)]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(stopped):
                if process.is_running():
                    process.send_signal(signal.SIGCONT)

    def _firing(self, names: Iterable[str]) -> set[str]:
        return {name for name, _ in self.prometheus.firing()} & set(names)

    def _processes(self, name: str) -> list[psutil.Process]:
        if name in SERVERS:
            children = psutil.Process(self.mesh.process.pid).children()
            (server,) = [one for one in children if one.name() in SERVERS[name]]
            return [server, *server.children(recursive=True)]
        part = self.mesh.file.parts[name]
        return [psutil.Process(pid) for pid in (part.watchdog_pid, part.pid) if pid]

    def etcd(self) -> str:
        endpoints: str = psutil.Process(self.mesh.file.parts["router"].pid).environ()["MESH_ETCD_ENDPOINTS"]
        return endpoints.split(",")[0]


@asynccontextmanager
async def open_transaction(url: str) -> AsyncIterator[None]:
    """A transaction that has written, has a snapshot, and does not end."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    await connection.fetchval("SELECT pg_current_xact_id()::text")
    try:
        yield
    finally:
        await transaction.rollback()
        await connection.close()


@asynccontextmanager
async def most_connections(url: str, share: float) -> AsyncIterator[None]:
    """So many connections more that `share` of all is used."""
    first = await asyncpg.connect(url)
    [row] = await first.fetch(
        "SELECT count(*) AS used, current_setting('max_connections')::int AS most FROM pg_stat_activity"
        " WHERE backend_type = 'client backend'"
    )
    wanted = int(row["most"] * share) - row["used"]
    more = [await asyncpg.connect(url) for _ in range(wanted)]
    try:
        yield
    finally:
        for one in [first, *more]:
            await one.close()


async def new_accounts(caller: Caller, operator: Caller, count: int) -> list[account_pb2.Account]:
    """Accounts that are paired and online."""
    made = [await caller.new_account() for _ in range(count)]
    for account in made:
        await caller.pair(account, operator)
    return made
