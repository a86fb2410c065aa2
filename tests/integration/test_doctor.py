"""`mesh doctor` beside real servers: well ones, and each in a way that it is found unwell."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from minio import Minio
from redis.asyncio import Redis

from mesh_cli.commands.doctor.asking import ask_all
from mesh_cli.commands.doctor.findings import Finding, Verdict
from mesh_cli.commands.doctor.servers import named_servers
from mesh_cli.commands.target import Target
from mesh_core.database import Database
from mesh_core.etcd import EtcdRefused
from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.ids import new_uuid
from mesh_core.sealing import PostgresDataKeys, Sealer
from mesh_core.settings import DatabaseSettings, SecretsSettings
from tests.conftest import S3
from tests.support.otlp_receiver import otlp_receiver
from tests.support.servers import UnsyncedEtcd, patient_etcd_at

QUOTA = 4 * 1024 * 1024
"""Of etcd, in bytes: it refuses writes once its file is larger."""


async def findings(environment: Mapping[str, str]) -> list[Finding]:
    """What is found of the servers that this names."""
    named, problems = named_servers(environment)
    return [*problems, *await ask_all(named, environment, Target(), None)]


def wrong(found: list[Finding], subject: str) -> list[str]:
    """What is wrong with one of them."""
    return [one.seen for one in found if (one.subject, one.verdict) == (subject, Verdict.WRONG)]


@pytest.fixture
async def small_etcd(tmp_path: Path) -> AsyncIterator[str]:
    """The endpoint of an etcd that has taken as much as it may."""
    server = FullEtcd(tmp_path)
    client = patient_etcd_at(await server.start())
    with suppress(EtcdRefused):
        while True:
            await client.put(b"/more", bytes(1_000_000))
    await client.close()
    yield server.url
    await server.stop()


class FullEtcd(UnsyncedEtcd):
    """An etcd that may take little."""

    async def _command(self) -> list[str]:
        return [*await super()._command(), f"--quota-backend-bytes={QUOTA}"]


async def test_servers_that_are_well_are_good(
    etcd: str, postgres_url: str, redis_url: str, tmp_path: Path, cluster: str
) -> None:
    with otlp_receiver() as collector:
        found = await findings(
            {
                "MESH_ETCD_ENDPOINTS": etcd,
                "MESH_CLUSTER_NAME": cluster,
                "MESH_DATABASE_URL": f"{postgres_url}?application_name=pooled",
                "MESH_DATABASE_DIRECT_URL": postgres_url,
                "MESH_REDIS_URL": redis_url,
                "MESH_OBJECTS_URL": tmp_path.as_uri(),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            }
        )
    unwell = {(one.subject, one.seen.partition(":")[0]) for one in found if one.verdict is Verdict.WRONG}
    # These tests' own Postgres does not sync what it writes.
    assert unwell <= {("Postgres", "fsync is off"), ("Postgres", "full_page_writes is off")}
    good = {one.subject for one in found if one.verdict is Verdict.GOOD}
    assert {"etcd", "Postgres", "PgBouncer", "schema", "clock", "Redis", "objects", "collector"} <= good


async def test_servers_that_do_not_answer_are_told_without_their_passwords(free_port: int) -> None:
    nobody = f"127.0.0.1:{free_port}"
    found = await findings(
        {
            "MESH_ETCD_ENDPOINTS": nobody,
            "MESH_DATABASE_URL": f"postgresql://mesh:verysecret@{nobody}/mesh",
            "MESH_REDIS_URL": f"redis://:verysecret@{nobody}/0",
            "MESH_OBJECTS_URL": "s3://bucket",
            "MESH_OBJECTS_ENDPOINT": f"http://{nobody}",
            "MESH_OBJECTS_ACCESS_KEY": "key",
            "MESH_OBJECTS_SECRET_KEY": "verysecret",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{nobody}",
        }
    )
    assert all(wrong(found, subject) for subject in ("etcd", "Postgres", "Redis", "objects"))
    [collector] = [one for one in found if one.subject == "collector"]
    assert collector.verdict is Verdict.WARNING  # only traces are lost
    assert "verysecret" not in repr(found)


async def test_a_wrong_password_and_a_database_that_is_not_there_are_told(postgres_url: str) -> None:
    there = urlsplit(postgres_url)
    refused = there._replace(netloc=f"{there.username}:verysecret@{there.hostname}:{there.port}")
    missing = there._replace(path="/nowhere")
    for url, words in ((refused, "authentication failed"), (missing, '"nowhere" does not exist')):
        found = await findings({"MESH_DATABASE_URL": urlunsplit(url)})
        [seen] = wrong(found, "Postgres")
        assert words in seen
        assert "verysecret" not in repr(found)


async def test_master_keys_that_do_not_open_what_is_there_are_told(postgres_url: str) -> None:
    own, another = (base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))
    database = await Database.open(DatabaseSettings(url=postgres_url))
    tenant = new_uuid()
    await database.pool.execute("INSERT INTO tenant (id, external_id) VALUES ($1, 'acme')", tenant)
    await Sealer(PostgresDataKeys(database), SecretsSettings(master_key=own)).load(tenant)
    await database.close()
    told = {}
    for key in (own, another):
        found = await findings({"MESH_DATABASE_URL": postgres_url, "MESH_SECRETS_MASTER_KEY": key})
        [told[key]] = [(one.verdict, one.seen) for one in found if one.subject == "keys"]
    assert told == {
        own: (Verdict.GOOD, "the master keys open those of 1 of 1 tenants"),
        another: (Verdict.WRONG, "the master keys open those of 0 of 1 tenants"),
    }


async def test_a_schema_of_another_release_and_a_role_without_rights_are_told(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    role = f"reader_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'verysecret'")
    try:
        await connection.execute("UPDATE alembic_version SET version_num = '0001'")
        await connection.execute(f"GRANT SELECT ON alembic_version, cluster_identity TO {role}")
        there = urlsplit(postgres_url)
        url = there._replace(netloc=f"{role}:verysecret@{there.hostname}:{there.port}")
        found = await findings({"MESH_DATABASE_URL": urlunsplit(url)})
    finally:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()
    [schema] = wrong(found, "schema")
    assert schema.startswith("schema version 1, ")
    [rights] = wrong(found, "rights")
    assert "may not read and write" in rights


async def test_an_etcd_that_is_full_is_told(small_etcd: str) -> None:
    found = wrong(await findings({"MESH_ETCD_ENDPOINTS": small_etcd}), "etcd")
    assert any("NOSPACE" in seen for seen in found)
    assert any("does not take a key" in seen for seen in found)


async def test_a_redis_that_lets_us_not_write_is_told(redis_url: str) -> None:
    admin, reader = Redis.from_url(redis_url), f"reader-{uuid4().hex}"
    await admin.acl_setuser(
        reader, enabled=True, passwords=["+verysecret"], categories=["+@read"], commands=["+ping", "+info"]
    )
    try:
        at = urlsplit(redis_url)
        found = await findings({"MESH_REDIS_URL": f"redis://{reader}:verysecret@{at.netloc}/0"})
        assert ["does not let us write" in seen for seen in wrong(found, "Redis")] == [True]
        found = await findings({"MESH_REDIS_URL": f"redis://{reader}:other@{at.netloc}/0"})
        assert len(wrong(found, "Redis")) == 1
    finally:
        await admin.acl_deluser(reader)
        await admin.aclose()


async def test_parts_that_etcd_knows_are_asked_and_counted(
    etcd: str, cluster: str, postgres_url: str, free_port: int
) -> None:
    client, gone = patient_etcd_at(etcd), f"127.0.0.1:{free_port}"
    for number, kind in enumerate(("webhook", "media", "simulator"), 1):
        service = ServiceInfo(id=f"{number}", address=gone, version="9.1.0", tls=kind == "media")
        key = f"/{cluster}/services/{kind}/{number}".encode()
        await client.put(key, msgspec.json.encode(service))
    named = {"MESH_ETCD_ENDPOINTS": etcd, "MESH_CLUSTER_NAME": cluster, "MESH_DATABASE_URL": postgres_url}
    found = await findings(named)
    assert any("2 processes may take 30 of" in one.seen for one in found if one.subject == "Postgres")
    assert any("these 3 take TLS connections only" in one.seen for one in found if one.subject == "parts")

    await client.delete(f"/{cluster}/services/media/2".encode())
    await client.close()
    found = await findings(named)
    assert wrong(found, "webhook") == [f"{gone} UNAVAILABLE"]
    [versions] = [one for one in found if one.subject == "versions"]
    assert (versions.verdict, "9.1.0" in versions.seen) == (Verdict.WARNING, True)


@pytest.mark.slow
async def test_a_bucket_is_written_read_and_emptied_again_and_must_not_be_public(s3: S3) -> None:
    bucket = f"test-{uuid4().hex[:12]}"
    named = {
        "MESH_OBJECTS_URL": f"s3://{bucket}",
        "MESH_OBJECTS_ENDPOINT": s3.endpoint,
        "MESH_OBJECTS_ACCESS_KEY": s3.access_key,
        "MESH_OBJECTS_SECRET_KEY": s3.secret_key,
    }
    [seen] = wrong(await findings(named), "objects")
    assert "NoSuchBucket" in seen

    at = urlsplit(s3.endpoint)
    client = Minio(at.netloc, s3.access_key, s3.secret_key, secure=False)
    await asyncio.to_thread(client.make_bucket, bucket)
    assert not wrong(await findings(named), "objects")
    assert not await asyncio.to_thread(lambda: list(client.list_objects(bucket)))

    everybody = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
    await asyncio.to_thread(client.set_bucket_policy, bucket, policy)
    assert wrong(await findings(named), "objects") == [f"{bucket} is open to everybody"]

    found = await findings(named | {"MESH_OBJECTS_SECRET_KEY": "verysecret"})
    assert "SignatureDoesNotMatch" in wrong(found, "objects")[0]
    assert "verysecret" not in repr(found)
