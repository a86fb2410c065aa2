"""S3 as people have it: keys that end, or may do little, certificates and names of their own, and no room."""

from __future__ import annotations

import asyncio
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from minio import MinioAdmin
from minio.credentials.credentials import Credentials
from minio.credentials.providers import AssumeRoleProvider, StaticProvider
from obstore.store import S3Store
from structlog.testing import capture_logs

from mesh_core.disk import DiskFull
from mesh_core.errors import StartupError, Unavailable
from mesh_core.settings import StoreSettings
from mesh_media.stores import s3 as s3_store
from mesh_media.stores.credentials import FoundCredentials
from mesh_media.stores.named_stores import open_store
from mesh_media.stores.object_store import ListedStore
from mesh_media.stores.s3 import minio_client
from tests.conftest import S3
from tests.support.authority import Authority
from tests.support.eventually import eventually
from tests.support.minio_server import DOMAIN
from tests.support.relay import relay_to

pytestmark = pytest.mark.slow

KEYS_URL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keys are found but those that a test puts somewhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")


@pytest.fixture
def bucket() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


def keyless(s3: S3, bucket: str, **more: Any) -> StoreSettings:
    return StoreSettings(url=f"s3://{bucket}", endpoint=s3.endpoint, **more)


def keyed(s3: S3, bucket: str, **more: Any) -> StoreSettings:
    return keyless(s3, bucket, access_key=s3.access_key, secret_key=s3.secret_key, **more)


async def check(store: ListedStore, **asking: Any) -> None:
    """Both clients of S3 get through, and who has an address, `asking` so."""
    await store.put("tenant/file", b"bytes")
    made = await store.download_url("tenant/file", timedelta(minutes=1), "", "text/plain")
    assert made is not None
    async with ClientSession() as session, session.get(made.url, **asking) as answer:
        assert (answer.status, await answer.read()) == (200, b"bytes")


@asynccontextmanager
async def serving(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    """The address of an HTTP server that answers so."""

    async def answered(request: web.Request) -> web.Response:
        await request.read()
        return answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answered)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def role_of(keys: Iterator[Credentials]) -> AsyncIterator[str]:
    """Where a container is given the keys of its role, the next ones each time."""

    def answer(_: web.Request) -> web.Response:
        given = next(keys)
        said = {
            "AccessKeyId": given.access_key,
            "SecretAccessKey": given.secret_key,
            "Token": given.session_token or "",
            "Expiration": f"{given.expiration:%Y-%m-%dT%H:%M:%SZ}",
        }
        return web.json_response(said)

    async with serving(answer) as address:
        yield f"{address}/keys"


def ending(access_key: str, secret_key: str, after: timedelta, token: str = "") -> Credentials:
    return Credentials(access_key, secret_key, token, datetime.now(UTC) + after)


async def test_keys_are_found_in_the_environment(
    seaweed: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    await check(await open_store(keyless(seaweed, bucket)))


async def test_where_there_are_no_keys_the_store_says_so(seaweed: S3, bucket: str) -> None:
    with pytest.raises(StartupError, match="there are no keys: access_key is empty"):
        await open_store(keyless(seaweed, bucket))


async def test_keys_of_a_role_are_asked_for_again_before_they_end_and_kept_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = iter([ending(f"key{n}", "secret", timedelta(minutes=time)) for n, time in enumerate((1, 60, 60))])
    async with role_of(given) as address:
        monkeypatch.setenv(KEYS_URL, address)
        found = FoundCredentials("us-east-1")
        keys = [await asyncio.to_thread(found.retrieve) for _ in range(3)]
    assert [one.access_key for one in keys] == ["key0", "key1", "key1"]


async def test_keys_of_a_role_stay_in_use_while_no_new_ones_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with role_of(iter([ending("key", "secret", timedelta(minutes=1))])) as address:
        monkeypatch.setenv(KEYS_URL, address)
        found = FoundCredentials("us-east-1")
        await asyncio.to_thread(found.retrieve)
    assert (await asyncio.to_thread(found.retrieve)).access_key == "key"


async def test_a_store_goes_on_with_the_next_session_of_its_role(
    s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = admin_of(s3)
    users = [await asyncio.to_thread(user_of, admin, READ_WRITE) for _ in range(2)]

    def session_of(user: tuple[str, str], time: timedelta) -> Credentials:
        role = AssumeRoleProvider(sts_endpoint=s3.endpoint, access_key=user[0], secret_key=user[1])
        keys = role.retrieve()
        assert keys.session_token
        return ending(keys.access_key, keys.secret_key, time, keys.session_token)

    short, long = timedelta(minutes=1), timedelta(hours=1)
    first = await asyncio.to_thread(session_of, users[0], short)
    second = await asyncio.to_thread(session_of, users[1], long)
    left = [first]
    async with role_of(left[-1] for _ in iter(int, 1)) as address:
        monkeypatch.setenv(KEYS_URL, address)
        store = await open_store(keyless(s3, bucket))
        await check(store)
        left.append(second)
        await asyncio.to_thread(admin.user_remove, users[0][0])

        async def gets_through() -> bool:
            with suppress(Unavailable):  # obstore asks for keys ten times a second at most
                await check(store)
                return True
            return False

        await eventually(gets_through)


async def test_an_address_ends_with_the_keys_that_signed_it(
    seaweed: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ending(seaweed.access_key, seaweed.secret_key, timedelta(hours=1))
    async with role_of(keys for _ in iter(int, 1)) as address:
        monkeypatch.setenv(KEYS_URL, address)
        store = await open_store(keyless(seaweed, bucket))
        long = await store.download_url("tenant/file", timedelta(days=7), "", "text/plain")
    assert long is not None
    assert keys.expiration is not None
    assert long.ends == keys.expiration.replace(tzinfo=UTC, microsecond=0)


async def test_certificates_of_an_authority_of_ones_own_are_trusted_by_both_clients(
    seaweed: S3, bucket: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ours")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("s3"))
    async with relay_to(seaweed.endpoint.removeprefix("http://"), context) as relay:
        behind = S3(f"https://{relay.url}", seaweed.access_key, seaweed.secret_key)
        with pytest.raises(StartupError, match="CERTIFICATE_VERIFY_FAILED"):
            await open_store(keyed(behind, bucket))
        store = await open_store(keyed(behind, bucket, ca_file=str(authority.ca)))
        await check(store, ssl=ssl.create_default_context(cafile=authority.ca))


async def test_certificates_that_cannot_be_read_are_named(seaweed: S3, bucket: str, tmp_path: Path) -> None:
    file = tmp_path / "ours.pem"
    with pytest.raises(StartupError, match=f"ca_file {file} "):
        await open_store(keyed(seaweed, bucket, ca_file=str(file)))
    file.write_text("not one")
    with pytest.raises(StartupError, match=f"ca_file {file} "):
        await open_store(keyed(seaweed, bucket, ca_file=str(file)))


async def test_a_bucket_may_be_named_in_the_host(
    s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def known(host: str, *arguments: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host.endswith(DOMAIN) else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    # obstore asks no resolver of Python's
    there = {"allow_http": True, "proxy_url": s3.endpoint}
    monkeypatch.setattr(
        s3_store, "S3Store", lambda *at, **how: S3Store(*at, **how | {"client_options": there})
    )
    named = S3(s3.endpoint.replace("127.0.0.1", DOMAIN), s3.access_key, s3.secret_key)
    store = await open_store(keyed(named, bucket, addressing="virtual"))
    made = await store.download_url("tenant/file", timedelta(minutes=1), "", "text/plain")
    assert made is not None
    assert made.url.startswith(f"http://{bucket}.{DOMAIN}:")
    await check(store, proxy=s3.endpoint)
    in_path = await open_store(keyed(s3, bucket))
    assert await in_path.size("tenant/file") == 5


async def test_keys_for_objects_only_will_do_where_the_bucket_is_there(s3: S3, bucket: str) -> None:
    await asyncio.to_thread(minio_client(keyed(s3, bucket)).make_bucket, bucket)
    access_key, secret_key = await asyncio.to_thread(user_of, admin_of(s3), OBJECTS_ONLY)
    limited = S3(s3.endpoint, access_key, secret_key)
    with capture_logs() as logs:
        store = await open_store(keyed(limited, bucket))
    assert [log["event"].partition(":")[0] for log in logs if log["log_level"] == "warning"] == [
        "the keys may not look at the bucket",
        "the keys may set no rules for the bucket",
    ]
    assert await store.unready() == ""
    await check(store)
    await store.delete("tenant/file")
    with pytest.raises(StartupError, match=f"the bucket {bucket}x cannot be used"):
        await open_store(keyed(limited, f"{bucket}x"))


async def test_keys_that_are_wrong_are_told_at_the_start(seaweed: S3, bucket: str) -> None:
    wrong = S3(seaweed.endpoint, seaweed.access_key, "wrong")
    with pytest.raises(StartupError, match=f"the bucket {bucket} cannot be used"):
        await open_store(keyed(wrong, bucket))


async def test_an_s3_that_is_not_there_is_told_at_the_start(bucket: str) -> None:
    nowhere = S3("http://127.0.0.1:1", "key", "secret")
    with pytest.raises(StartupError, match=f"the bucket {bucket} cannot be used"):
        await open_store(keyed(nowhere, bucket))


@pytest.mark.parametrize(
    ("status", "code"),
    [(507, "XMinioStorageFull"), (403, "QuotaExceeded"), (400, "XMinioAdminBucketQuotaExceeded")],
)
async def test_an_s3_without_room_is_told_as_a_full_disk_is(
    status: int, code: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "RETRY_SECONDS", 0.5)

    def answer(request: web.Request) -> web.Response:
        if request.method == "PUT" and request.path.endswith("/tenant/file"):
            return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")
        return web.Response(status=200 if request.method == "HEAD" else 404)

    async with serving(answer) as address:
        store = await open_store(keyed(S3(address, "key", "secret"), bucket))
        with pytest.raises(DiskFull, match="the disk of the object store is full"):
            await store.put("tenant/file", b"bytes")


async def test_keys_that_are_taken_away_are_told_to_the_operator_and_not_to_callers(
    bucket: str,
) -> None:
    def answer(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.method == "HEAD" else 403, text="<Code>AccessDenied</Code>")

    async with serving(answer) as address:
        store = await open_store(keyed(S3(address, "key", "secret"), bucket))
        with capture_logs() as logs, pytest.raises(Unavailable) as told:
            await store.put("tenant/file", b"bytes")
    assert "the object store refuses the keys" in [log["event"] for log in logs]
    assert bucket not in str(told.value)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "NoSuchKey", ""),
        (403, "AccessDenied", ""),
        (403, "InvalidAccessKeyId", "the object store refuses the keys"),
        (403, "SignatureDoesNotMatch", "the object store refuses the keys"),
        (503, "SlowDown", "the object store does not answer"),
    ],
)
async def test_a_store_that_forbids_one_object_is_ready_and_one_that_refuses_keys_is_not(
    status: int, code: str, reason: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "RETRY_SECONDS", 0.5)

    def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/readiness"):
            return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")
        return web.Response(status=200 if request.method == "HEAD" else 404)

    async with serving(answer) as address:
        store = await open_store(keyed(S3(address, "key", "secret"), bucket))
        assert await store.unready() == reason


READ_WRITE = ["s3:*"]
OBJECTS_ONLY = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]


def admin_of(s3: S3) -> MinioAdmin:
    at = s3.endpoint.removeprefix("http://")
    return MinioAdmin(endpoint=at, credentials=StaticProvider(s3.access_key, s3.secret_key), secure=False)


def user_of(admin: MinioAdmin, actions: list[str]) -> tuple[str, str]:
    """The keys of a new user of MinIO's who may do so much."""
    name, secret = f"user-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    statement = {"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*"]}
    admin.user_add(name, secret)
    admin.policy_add(name, policy={"Version": "2012-10-17", "Statement": [statement]})
    admin.policy_set(name, user=name)
    return name, secret
