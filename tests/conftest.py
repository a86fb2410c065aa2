"""Backing servers for tests: one of each per lane, started when a test first asks, fresh names inside them.

MESH_TEST_ETCD (host:port), MESH_TEST_POSTGRES (URL of a superuser), MESH_TEST_REDIS (URL) and MESH_TEST_S3
(endpoint with its keys: `http://access:secret@host:port`) name servers to use instead; none is then started.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
import structlog

from mesh_cli.embedded import EmbeddedRedis, EmbeddedS3, EmbeddedServer, free_port
from tests.support.minio_server import EmbeddedMinio
from tests.support.servers import UnsyncedEtcd, unsynced_postgres
from tests.support.tools import require_tool

# How test files run side by side, and what servers answered.
pytest_plugins = ["tests.support.lanes", "tests.support.answers.plugin"]

Result = TypeVar("Result")
UNTIMED = (hypothesis.HealthCheck.too_slow,)


def pytest_configure() -> None:
    """A shell has what it starts in the background ignore Ctrl-C; so would all processes that tests start.

    Plain tracebacks in what services log in the tests' process: one with colours and values takes 0.2 s.
    Examples are not timed: others may use the processors.
    """
    hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=UNTIMED)
    hypothesis.settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    *processors, _ = structlog.get_config()["processors"]
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, console])


class LoopThread:
    """An event loop that outlives the tests' own loops. Servers started on it live as long as its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test servers", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Databases:
    """Databases of one Postgres server; migrated ones are copies of a template, made in some 50 ms."""

    def __init__(self, admin: asyncpg.Connection[Any], dropper: asyncpg.Connection[Any], url: str) -> None:
        self._admin = admin
        self._dropper = dropper
        self._dropping: asyncio.Task[None] | None = None
        self._url = url
        self._template = ""

    async def create(self, template: str = "template0") -> str:
        name = f"test_{uuid.uuid4().hex}"
        await self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    async def create_migrated(self) -> str:
        if not self._template:
            from mesh_core.database.migrations import migrate

            template = await self.create()
            await migrate(self.url(template))
            self._template = template
        return await self.create(self._template)

    async def drop(self, name: str) -> None:
        await self._admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def drop_soon(self, name: str) -> None:
        """Drops it while the next test runs: that takes longer than making one."""
        self._dropping = asyncio.create_task(self._drop_after(self._dropping, name))

    async def close(self) -> None:
        if self._dropping is not None:
            await self._dropping
        if self._template:
            await self.drop(self._template)
        await self._admin.close()
        await self._dropper.close()

    async def _drop_after(self, earlier: asyncio.Task[None] | None, name: str) -> None:
        if earlier is not None:
            await earlier
        await self._dropper.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 service; `endpoint` is an http URL."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


@pytest.fixture(scope="session")
def server_loop() -> Iterator[LoopThread]:
    """Where session-wide servers live."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def servers_state() -> Iterator[Path]:
    """The folder of the session-wide servers' data."""
    folder = Path(tempfile.mkdtemp(prefix="sessionmesh-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def etcd(request: pytest.FixtureRequest) -> Iterator[str]:
    """The endpoint `host:port` of an etcd that the whole run shares: use keys of your own (`cluster`)."""
    yield from _address(request, "MESH_TEST_ETCD", UnsyncedEtcd)


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a Redis that the whole run shares."""
    yield from _address(request, "MESH_TEST_REDIS", EmbeddedRedis)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis that the whole run shares: use keys of your own."""
    return redis_server


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a superuser of the Postgres server that the whole run shares."""
    yield from _address(request, "MESH_TEST_POSTGRES", unsynced_postgres)


@pytest.fixture(scope="session")
def databases(postgres_server: str, server_loop: LoopThread) -> Iterator[Databases]:
    """Makes and drops databases on the shared Postgres server, from `server_loop` only."""
    admin, dropper = (server_loop.run(_connect(postgres_server)) for _ in range(2))
    created = Databases(admin, dropper, postgres_server)
    yield created
    server_loop.run(created.close())


@pytest.fixture
def postgres_url(databases: Databases, server_loop: LoopThread) -> Iterator[str]:
    """The URL of a fresh database with the current schema."""
    name = server_loop.run(databases.create_migrated())
    yield databases.url(name)
    server_loop.run(databases.drop_soon(name))


@contextmanager
def fresh_database(databases: Databases, server_loop: LoopThread) -> Iterator[str]:
    """The URL of a database with the current schema, for fixtures of any scope."""
    name = server_loop.run(databases.create_migrated())
    yield databases.url(name)
    server_loop.run(databases.drop_soon(name))


@pytest.fixture(scope="module")
def module_postgres_url(databases: Databases, server_loop: LoopThread) -> Iterator[str]:
    """The URL of a database with the current schema for all tests of a module: use tenants of your own."""
    with fresh_database(databases, server_loop) as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases, server_loop: LoopThread) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    name = server_loop.run(databases.create())
    yield databases.url(name)
    server_loop.run(databases.drop(name))


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> Iterator[S3]:
    """An S3 service that the whole run shares: use a bucket of your own."""

    def embedded(state: Path) -> EmbeddedMinio:
        return EmbeddedMinio(state, require_tool("minio"))

    for url in _address(request, "MESH_TEST_S3", embedded):
        parts = urlsplit(url)
        endpoint = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        yield S3(endpoint, parts.username or "", parts.password or "")


@pytest.fixture(scope="session")
def seaweed(servers_state: Path, server_loop: LoopThread) -> Iterator[S3]:
    """The S3 of `mesh up --objects s3`, which the whole run shares: use a bucket of your own."""
    server = EmbeddedS3(servers_state)
    # Of the room on the disk it sets aside seven GiB for each bucket otherwise: tests make many.
    server.directory.mkdir()
    (server.directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    server_loop.run(server.start())
    yield S3(server.endpoint, server.keys.access_key, server.keys.secret_key)
    server_loop.run(server.stop())


@pytest.fixture
def cluster() -> str:
    """A cluster name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(name="free_port")
def free_port_fixture() -> int:
    """A loopback TCP port that nothing listens on."""
    return free_port()


@pytest.fixture
def tmp_state() -> Iterator[Path]:
    """A state directory for one test, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="sessionmesh-test-"))
    yield folder
    shutil.rmtree(folder)


def _address(
    request: pytest.FixtureRequest, variable: str, make: Callable[[Path], EmbeddedServer]
) -> Iterator[str]:
    external = os.environ.get(variable)
    if external:
        yield external
        return
    loop: LoopThread = request.getfixturevalue("server_loop")
    server = make(request.getfixturevalue("servers_state"))
    yield loop.run(server.start())
    loop.run(server.stop())


async def _connect(url: str) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(url)
