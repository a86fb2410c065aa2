"""What a process refuses to start with: being open to others, unknown to the mesh, or short of open files."""

from __future__ import annotations

import resource
from collections.abc import Callable

import msgspec
import pytest

from mesh_core.errors import Misconfigured
from mesh_core.process import start_checks
from mesh_core.process.exposure import refuse_exposed
from mesh_core.process.start_checks import refuse_stranger
from mesh_core.settings import (
    AuthSettings,
    BadSettings,
    DatabaseSettings,
    EtcdSettings,
    LinksSettings,
    NetworkSettings,
    ObjectsSettings,
    RedisSettings,
    ServerSettings,
    read,
)

SAFE = {
    "MESH_DATABASE_URL": "postgresql://mesh:secret@db.example.com/mesh?sslmode=verify-full",
    "MESH_ETCD_ENDPOINTS": "127.0.0.1:2379",
    "MESH_OBJECTS_URL": "s3://mesh",
    "MESH_AUTH_MESH_KEY": "smmesh_0123456789",
}
PLAIN = {
    "MESH_SERVER_LISTEN": "10.0.0.4:7600",
    "MESH_SERVER_METRICS_LISTEN": "0.0.0.0:9464",
    "MESH_LINKS_LISTEN": "[::]:8080",
    "MESH_DATABASE_URL": "postgresql://mesh:secret@db.example.com/mesh",
    "MESH_DATABASE_DIRECT_URL": "postgresql://mesh@10.0.0.5/mesh?sslmode=require",
    "MESH_ETCD_ENDPOINTS": "127.0.0.1:2379,etcd.example.com:2379",
    "MESH_REDIS_URL": "redis://:secret@10.0.0.6:6379/0",
    "MESH_OBJECTS_ENDPOINT": "http://s3.example.com:9000",
}
LOCAL = {
    "MESH_SERVER_LISTEN": "[::1]:7600",
    "MESH_SERVER_METRICS_LISTEN": "localhost:9464",
    "MESH_DATABASE_URL": "postgresql://mesh@/mesh?host=/run/postgresql",
    "MESH_ETCD_ENDPOINTS": "unix:/run/etcd.sock",
    "MESH_REDIS_URL": "unix:///run/redis.sock",
    "MESH_OBJECTS_ENDPOINT": "http://127.0.0.1:9000",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    redis: RedisSettings
    objects: ObjectsSettings
    links: LinksSettings
    auth: AuthSettings
    network: NetworkSettings


def settings(**environment: str) -> Settings:
    return read(Settings, SAFE | environment)


@pytest.mark.parametrize("variable", PLAIN)
def test_what_others_could_read_or_do_is_refused(variable: str) -> None:
    with pytest.raises(BadSettings, match=rf"^{variable} .*; or MESH_NETWORK_PRIVATE=true") as refused:
        refuse_exposed(settings(**{variable: PLAIN[variable]}))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("variable", LOCAL)
def test_this_machine_is_nobody_else(variable: str) -> None:
    refuse_exposed(settings(**{variable: LOCAL[variable]}))


def test_on_a_network_of_its_own_a_mesh_may_speak_plainly() -> None:
    refuse_exposed(settings(**PLAIN, MESH_NETWORK_PRIVATE="true"))


def test_tls_and_passwords_are_enough() -> None:
    refuse_exposed(
        settings(
            MESH_SERVER_LISTEN="10.0.0.4:7600",
            MESH_SERVER_TLS_CERTIFICATE=__file__,
            MESH_SERVER_TLS_KEY=__file__,
            MESH_ETCD_ENDPOINTS="etcd.example.com:2379",
            MESH_ETCD_CA=__file__,
            MESH_ETCD_USERNAME="mesh",
            MESH_REDIS_URL="rediss://:secret@redis.example.com/0",
            MESH_OBJECTS_ENDPOINT="https://s3.example.com",
        )
    )


def test_a_part_without_the_meshs_key_is_refused() -> None:
    with pytest.raises(BadSettings, match=r"^MESH_AUTH_MESH_KEY is required"):
        refuse_stranger(settings(MESH_AUTH_MESH_KEY=""))


@pytest.mark.parametrize("listen", ["0.0.0.0:7600", "[::]:7600"])
def test_a_part_that_listens_everywhere_says_where_it_is_reached(listen: str) -> None:
    with pytest.raises(BadSettings, match=r"^MESH_SERVER_ADVERTISE is required"):
        refuse_stranger(settings(MESH_SERVER_LISTEN=listen))
    refuse_stranger(settings(MESH_SERVER_LISTEN=listen, MESH_SERVER_ADVERTISE="node-1:7600"))


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Sets the soft and the hard limit of open files; what is set later is in the list."""

    def pretend(soft: int, hard: int) -> list[tuple[int, int]]:
        changed: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _kind: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _kind, both: changed.append(both))
        return changed

    return pretend


def test_the_limit_of_open_files_is_raised_as_far_as_needed(
    limits: Callable[[int, int], list[tuple[int, int]]],
) -> None:
    changed = limits(1024, 100_000)
    start_checks.make_room(5_000)
    assert changed == [(6_024, 100_000)]


def test_a_limit_that_is_high_enough_stays(limits: Callable[[int, int], list[tuple[int, int]]]) -> None:
    changed = limits(20_000, 20_000)
    start_checks.make_room(5_000)
    assert changed == []


def test_too_few_open_files_are_refused(limits: Callable[[int, int], list[tuple[int, int]]]) -> None:
    limits(1024, 4_096)
    with pytest.raises(
        Misconfigured, match=r"may open 4096 files and needs 6024: .*or lower MESH_NODE_CAPACITY"
    ):
        start_checks.make_room(5_000)
