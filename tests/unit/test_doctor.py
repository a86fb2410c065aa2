"""What `mesh doctor` makes of what servers, parts and the machine say."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mesh_cli.commands.doctor import etcd, findings, machine, objects, parts, postgres, redis
from mesh_cli.commands.doctor.asking import ask_all
from mesh_cli.commands.doctor.findings import Finding, Verdict
from mesh_cli.commands.doctor.servers import Named, named_servers
from mesh_cli.commands.target import Target
from mesh_wire.etcd import admin_pb2, rpc_pb2

GIB = 1024**3


class Usage(NamedTuple):
    """A disk."""

    total: int
    free: int


def told(found: Iterable[Finding]) -> set[tuple[str, str]]:
    """What is not good: the verdicts, and how what was seen ends."""
    return {(finding.verdict.value, finding.seen) for finding in found if finding.verdict is not Verdict.GOOD}


def member(**fields: Any) -> etcd.Answered:
    """A healthy leader, but for `fields`."""
    header = rpc_pb2.ResponseHeader(cluster_id=fields.pop("cluster_id", 1), member_id=7)
    seconds = fields.pop("seconds", 0.001)
    healthy: dict[str, Any] = {"version": "3.6.1", "leader": 7, "raftTerm": 2, "dbSize": 1_000_000} | fields
    return etcd.Answered("one:2379", admin_pb2.StatusResponse(header=header, **healthy), seconds)


def test_a_healthy_member_is_one_good_finding() -> None:
    [finding] = etcd.member_findings(member(dbSizeQuota=8 * GIB))
    assert finding.verdict is Verdict.GOOD
    assert finding.seen == "one:2379 3.6.1, leader, a read 1.0 ms, 1.0 MB of 8.6 GB"


@pytest.mark.parametrize(
    ("fields", "verdict", "seen"),
    [
        ({"version": "3.4.20"}, "wrong", "one:2379: etcd 3.4.20 is too old"),
        ({"version": "3.5.2"}, "warning", "one:2379: etcd 3.5.2 may damage its data when killed"),
        ({"leader": 0}, "wrong", "one:2379: sees no leader"),
        ({"isLearner": True}, "warning", "one:2379: is a learner, which has no vote"),
        ({"errors": ["memberID:7 alarm:NOSPACE"]}, "wrong", "one:2379: alarm memberID:7 alarm:NOSPACE"),
        ({"dbSize": 9 * GIB, "dbSizeQuota": 10 * GIB}, "warning", "one:2379: 90% of its quota is used"),
        ({"dbSize": 2 * GIB}, "wrong", "one:2379: 100% of its quota is used"),
        (
            {"raftIndex": 9_000, "raftAppliedIndex": 1_000},
            "warning",
            "one:2379: is 8,000 entries behind its log",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_ails_a_member_is_told(fields: dict[str, Any], verdict: str, seen: str) -> None:
    assert told(etcd.member_findings(member(**fields))) == {(verdict, seen)}


def test_a_member_that_answers_late_is_told() -> None:
    verdicts = [next(etcd.member_findings(member(seconds=took))).verdict for took in (0.09, 0.2, 1.5)]
    assert verdicts == ["good", "warning", "wrong"]


def test_members_that_do_not_agree_are_told() -> None:
    assert not told(etcd.cluster_findings([member(), member()]))
    [(verdict, _)] = told(etcd.cluster_findings([member(), member(leader=8)]))
    assert verdict == "warning"
    [(verdict, _)] = told(etcd.cluster_findings([member(), member(cluster_id=2)]))
    assert verdict == "wrong"
    [(_, seen)] = told(etcd.cluster_findings([member(), member(version="3.5.9")]))
    assert seen == "members of 3.5.9, 3.6.1"


HEALTHY = postgres.Server(
    version="PostgreSQL 18.0",
    major=18,
    seconds=0.001,
    off=0.0,
    settings={"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"},
    standby=False,
    used=10,
    most=100,
)


def test_a_healthy_postgres_is_good() -> None:
    assert not told(postgres.server_findings("db:5432/mesh", HEALTHY))


@pytest.mark.parametrize(
    ("fields", "verdict", "word"),
    [
        ({"major": 16, "version": "PostgreSQL 16.4"}, "wrong", "16.4"),
        ({"settings": {"fsync": "off"}}, "wrong", "fsync is off"),
        ({"settings": {"synchronous_commit": "off"}}, "wrong", "synchronous_commit is off"),
        ({"standby": True}, "wrong", "standby"),
        ({"off": -2.0}, "warning", "-2.00 s"),
        ({"off": 6.0}, "wrong", "+6.00 s"),
        ({"seconds": 0.1}, "warning", "100.0 ms"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_ails_postgres_is_told(fields: dict[str, Any], verdict: str, word: str) -> None:
    [(found, seen)] = told(postgres.server_findings("db:5432/mesh", replace(HEALTHY, **fields)))
    assert (found, word in seen) == (verdict, True)


def test_connections_must_do_for_every_process() -> None:
    assert not told(postgres.connection_findings(HEALTHY, processes=6, pool=10))
    [(verdict, seen)] = told(postgres.connection_findings(HEALTHY, processes=8, pool=10))
    assert (verdict, seen) == ("warning", "8 processes may take 120 of 100 connections")
    [(verdict, _)] = told(postgres.connection_findings(replace(HEALTHY, used=96), processes=None, pool=10))
    assert verdict == "wrong"


@pytest.mark.parametrize(("version", "verdict"), [(22, "wrong"), (23, "good"), (24, "wrong")])
def test_the_schema_must_be_this_releases(version: int, verdict: str) -> None:
    assert postgres.schema_finding(version, 23).verdict == verdict


def test_a_slot_that_holds_much_of_the_log_is_told() -> None:
    verdicts = [
        postgres.slot_finding("s", False, held, "reserved").verdict for held in (10**9, 11 * 10**9, 10**12)
    ]
    assert verdicts == ["good", "warning", "wrong"]
    assert postgres.slot_finding("s", True, 0, "lost").verdict is Verdict.WRONG


def info(**fields: Any) -> dict[str, Any]:
    """What a healthy Redis says of itself, but for `fields`."""
    return {
        "redis_version": "7.2.4",
        "used_memory": 95,
        "maxmemory": 100,
        "maxmemory_policy": "allkeys-lru",
    } | fields


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, None),
        ({"redis_version": "6.0.16"}, "wrong"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, None),
        ({"role": "slave"}, "wrong"),
        ({"maxmemory_policy": "noeviction"}, "warning"),
        ({"maxmemory_policy": "noeviction", "maxmemory": 0}, None),
        ({"rdb_last_bgsave_status": "err"}, "warning"),
        ({"aof_last_write_status": "err"}, "warning"),
    ],
)
def test_what_ails_redis_is_told(fields: dict[str, Any], verdict: str | None) -> None:
    found = told(redis.server_findings("cache:6379", info(**fields), 0.001))
    assert [one for one, _ in found] == ([verdict] if verdict else [])


@pytest.mark.parametrize(
    ("date", "verdict"),
    [
        ("Mon, 30 Nov 2026 12:00:30 GMT", "good"),
        ("Mon, 30 Nov 2026 12:05:00 GMT", "warning"),
        ("Mon, 30 Nov 2026 11:40:00 GMT", "wrong"),
        ("noon", "good"),
    ],
)
def test_the_clock_of_s3_is_compared(date: str, verdict: str) -> None:
    noon = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert objects.clock_finding("objects", date, noon).verdict == verdict


def test_a_node_must_be_able_to_open_a_file_for_each_session() -> None:
    verdicts = [
        machine.files_finding((1024, hard), 5000).verdict for hard in (6023, 6024, resource.RLIM_INFINITY)
    ]
    assert verdicts == ["wrong", "good", "good"]


@pytest.mark.parametrize(
    ("free", "verdict"), [(10**9, "wrong"), (9 * 10**9, "warning"), (11 * 10**9, "good")]
)
def test_a_disk_must_have_room(free: int, verdict: str) -> None:
    assert machine.room_finding("disk", Usage(100 * 10**9, free), Path("/data")).verdict == verdict


@pytest.mark.parametrize(("available", "verdict"), [(50, "good"), (8, "warning"), (1, "wrong")])
def test_a_machine_must_have_memory(available: int, verdict: str) -> None:
    assert machine.memory_finding(100, available).verdict == verdict


def test_an_old_part_beside_a_new_one_is_told() -> None:
    [same] = parts.version_findings({"router": "1.1.0", "webhook": "", "node-1": "1.1.0"}, "1.1.0")
    assert same.verdict is Verdict.GOOD
    [mixed] = parts.version_findings({"router": "1.1.0", "node-1": "1.0.0", "node-2": "1.0.0"}, "1.1.0")
    assert (mixed.verdict, mixed.seen) == (Verdict.WARNING, "1.0.0: node-1, node-2; 1.1.0: router")
    [far] = parts.version_findings({"router": "1.2.0", "node-1": "1.0.0"}, "1.2.0")
    assert far.verdict is Verdict.WRONG
    [other] = parts.version_findings({"router": "1.1.0"}, "1.0.0")
    assert other.verdict is Verdict.WARNING


def test_a_bad_setting_is_told_without_its_secret_and_the_other_servers_are_asked() -> None:
    environment = {
        "MESH_DATABASE_URL": "mysql://mesh:verysecret@db/mesh",
        "MESH_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    named, [finding] = named_servers(environment)
    assert [one.subject for one in named] == ["Redis"]
    assert finding.verdict is Verdict.WRONG
    assert "MESH_DATABASE_URL" in finding.seen
    assert "verysecret" not in repr(finding)


def test_a_url_that_its_password_breaks_is_told_without_it() -> None:
    named, [finding, *_] = named_servers({"MESH_REDIS_URL": "redis://mesh:very/secret@cache/0"})
    assert (named, finding.verdict) == ([], Verdict.WRONG)
    assert finding.seen.startswith("MESH_REDIS_URL='redis://mesh:***@cache/0' cannot be read as a URL")
    assert not {word for word in ("very", "secret") if word in repr(finding)}


def test_several_hosts_of_one_postgres_are_a_url() -> None:
    named, _ = named_servers({"MESH_DATABASE_URL": "postgresql://mesh:verysecret@one:5432,two:5432/mesh"})
    assert [one.subject for one in named] == ["Postgres"]


async def test_a_server_that_never_answers_and_an_odd_answer_are_findings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(findings, "SECONDS", 0.01)

    async def silent() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def odd() -> list[Finding]:
        raise KeyError("verysecret")

    found = [one for check in (silent(), odd()) for one in await findings.in_time("Redis", check)]
    assert [one.verdict for one in found] == [Verdict.WRONG, Verdict.WRONG]
    assert "verysecret" not in repr(found)


async def test_servers_are_asked_at_once() -> None:
    met = asyncio.Event()

    async def waits(_settings: object, _parts: object) -> list[Finding]:
        await met.wait()
        return [findings.good("first", "answered")]

    async def meets(_settings: object, _parts: object) -> list[Finding]:
        met.set()
        return [findings.good("second", "answered")]

    asked = await ask_all([Named("first", None, waits), Named("second", None, meets)], {}, Target(), None)
    assert {"first", "second"} <= {one.subject for one in asked if one.verdict is Verdict.GOOD}


def test_what_is_open_to_others_is_told_unless_the_network_is_private() -> None:
    environment = {"MESH_REDIS_URL": "redis://cache.example.com/0"}
    verdicts = [
        {finding.verdict for finding in named_servers(environment | more)[1] if finding.subject == "network"}
        for more in ({}, {"MESH_NETWORK_PRIVATE": "true"})
    ]
    assert verdicts == [{Verdict.WRONG}, {Verdict.GOOD}]


def test_a_file_of_settings_names_servers_too(tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    file.write_text('[etcd]\nendpoints = ["127.0.0.1:2379"]\n')
    named, _ = named_servers({"MESH_CONFIG": str(file)})
    assert [one.subject for one in named] == ["etcd"]
    named, [finding] = named_servers({"MESH_CONFIG": str(tmp_path / "missing")})
    assert (named, finding.verdict) == ([], Verdict.WRONG)
