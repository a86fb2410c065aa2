"""`mesh doctor`: the object stores: a probe is written, read and deleted, and read as a stranger."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

from minio import Minio
from minio.credentials.providers import Provider
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from mesh_cli.commands.doctor.findings import NO_ANSWER, Finding, good, measured, milliseconds, warning, wrong
from mesh_cli.commands.doctor.machine import room_finding
from mesh_core.errors import StartupError
from mesh_core.ids import new_uuid
from mesh_core.settings import MAIN_STORE, ObjectsSettings, StoreSettings
from mesh_media.stores.buckets import PROBE
from mesh_media.stores.credentials import NoCredentials
from mesh_media.stores.s3 import minio_client

ANSWER_SECONDS = 2.0
SLOW_SECONDS = (0.5, 2.0)
CLOCK_SECONDS = (60.0, 900.0)
"""S3 refuses what is signed more than 15 minutes off its own clock."""
_BYTES = b"sessionmesh"


async def check_objects(settings: ObjectsSettings) -> list[Finding]:
    """Ask each store, all at once."""
    stores: dict[str, StoreSettings] = {MAIN_STORE: settings, **settings.others}
    found = await asyncio.gather(*(asyncio.to_thread(_store, name, one) for name, one in stores.items()))
    return [finding for findings in found for finding in findings]


def clock_finding(subject: str, date: str, now: datetime) -> Finding:
    """Our clock beside the Date of an answer, which has whole seconds."""
    try:
        off = (now - parsedate_to_datetime(date)).total_seconds()
    except ValueError:
        return good(subject, "does not say what time it is")
    return measured(
        subject, abs(off), CLOCK_SECONDS, f"our clock is {off:+.0f} s from its clock", "Set both by NTP."
    )


def _store(name: str, settings: StoreSettings) -> list[Finding]:
    subject = "objects" if name == MAIN_STORE else f"objects {name}"
    at = urlsplit(settings.url)
    if at.scheme == "file":
        return [_directory(subject, Path(unquote(at.path)))]
    try:
        client = minio_client(settings, seconds=ANSWER_SECONDS)
        return list(_bucket(subject, settings, client, at.netloc))
    except S3Error as error:
        return [
            wrong(
                subject,
                f"{settings.url} {error.code}: {error.message}",
                _REMEDIES.get(error.code or "", _RIGHTS),
            )
        ]
    except NoCredentials:
        return [wrong(subject, f"{settings.url} there are no keys for it", _KEYS)]
    except ValueError as error:
        return [wrong(subject, f"{settings.url} {error}", "Check MESH_OBJECTS_URL and _ENDPOINT.")]
    except (MinioException, HTTPError, OSError, StartupError) as error:
        return [wrong(subject, f"{settings.url} {type(error).__name__}: {error}", NO_ANSWER)]


def _bucket(subject: str, settings: StoreSettings, client: Minio, bucket: str) -> Iterator[Finding]:
    """Everything that media does there. Blocks."""
    key = f"{PROBE}-{new_uuid().hex}"
    sent = time.monotonic()
    put = client.put_object(bucket, key, BytesIO(_BYTES), len(_BYTES))
    took, now = time.monotonic() - sent, datetime.now(UTC)
    try:
        answer = client.get_object(bucket, key)
        with answer:
            same = answer.read() == _BYTES
        listed = _may_list(client, bucket, key)
        public = _is_readable(minio_client(settings, keys=_Stranger(), seconds=ANSWER_SECONDS), bucket, key)
    finally:
        client.remove_object(bucket, key)
    if not same:
        yield wrong(subject, f"{settings.url} gave back other bytes than it took", "Do not use it.")
        return
    seen = f"{settings.url} writes, reads and deletes, a write {milliseconds(took)}"
    yield measured(subject, took, SLOW_SECONDS, seen, "Uploads wait for it.")
    if not listed:
        yield warning(subject, "the keys may not list it", "Media then cannot find what nobody refers to.")
    if public:
        yield wrong(subject, f"{bucket} is open to everybody", "Take its public policy, or ACL, away.")
    yield clock_finding(subject, put.http_headers.get("Date", ""), now)


def _may_list(client: Minio, bucket: str, key: str) -> bool:
    try:
        return [found.object_name for found in client.list_objects(bucket, prefix=key)] == [key]
    except S3Error:
        return False


def _is_readable(client: Minio, bucket: str, key: str) -> bool:
    try:
        client.stat_object(bucket, key)
    except S3Error:
        return False
    return True


def _directory(subject: str, folder: Path) -> Finding:
    probe = folder / f"{PROBE}-{new_uuid().hex}"
    try:
        probe.write_bytes(_BYTES)
        probe.unlink()
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return wrong(subject, f"{folder}: {error.strerror}", "Make it, and let media's user write there.")
    return room_finding(subject, usage, folder)


class _Stranger(Provider):
    """Somebody without keys."""

    def retrieve(self) -> None:  # type: ignore[override]  # requests are then not signed
        return None


_RIGHTS = "The keys must be allowed to put, get, list and delete objects of the bucket."
_KEYS = "Set MESH_OBJECTS_ACCESS_KEY and MESH_OBJECTS_SECRET_KEY."
_REMEDIES = {
    "NoSuchBucket": "Media makes it when it starts; or make it.",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": "MESH_OBJECTS_SECRET_KEY is not the secret of this access key.",
    "RequestTimeTooSkewed": "Set both clocks by NTP.",
}
