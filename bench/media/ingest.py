"""What taking files in costs: memory for large ones, CPU for known ones, and which of strangers' files are
lost.
"""

from __future__ import annotations

import asyncio
import statistics
import uuid
from collections.abc import AsyncIterator, Sequence

import grpc.aio
import psutil

from bench.measuring.report import Measured
from bench.media.world import MediaService, media_service
from mesh_core.ids import Prefix, decode
from mesh_core.rpc.channels import mesh_metadata
from sessionmesh.v1 import media_pb2
from tests.support.media_world import ADMIN, MESH_KEY, photograph, upload_frames
from tests.support.odd_files import OddFile, odd_files

LARGE_BYTES, LARGE_AT_ONCE, QUICK_AT_ONCE = 200_000_000, 4, 1
KNOWN, QUICK_KNOWN = 300, 50
ODD_AT_ONCE = 4
_PIECE = bytes(range(256)) * 1024
_SAMPLE_SECONDS = 0.02


async def measure(quick: bool) -> Measured:
    """`added_mb_200mb_uploads`: memory (PSS) of the service and its workers at the most while uploads of 200
    MB come at once, over before; `dedup_cpu_ms`: CPU of the service for a photograph that the tenant has
    already; `inbound_files` and `inbound_kept`: odd files of the network, and those of them that are stored.
    """
    at_once = QUICK_AT_ONCE if quick else LARGE_AT_ONCE
    async with media_service(MESH_MEDIA_MAX_BYTES=str(LARGE_BYTES)) as service:
        tenant = await service.tenant()
        added = await _added_mb(service, tenant, at_once)
        known = await _known_cpu_ms(service, tenant, QUICK_KNOWN if quick else KNOWN)
        files = odd_files()
        kept = await _are_kept(service, tenant, files)
    return Measured(
        {
            "added_mb_200mb_uploads": added,
            "dedup_cpu_ms": known,
            "inbound_files": len(files),
            "inbound_kept": sum(kept),
        },
        (f"{at_once} uploads of 200 MB came at once, with MESH_MEDIA_MAX_BYTES raised to it.",),
    )


async def _added_mb(service: MediaService, tenant: str, at_once: int) -> float:
    await _upload_large(service, tenant, 1_000_000)
    before = most = _pss_mb(service.process.pid)
    uploads = asyncio.gather(*(_upload_large(service, tenant, LARGE_BYTES) for _ in range(at_once)))
    while not uploads.done():
        await asyncio.sleep(_SAMPLE_SECONDS)
        most = max(most, await asyncio.to_thread(_pss_mb, service.process.pid))
    await uploads
    return most - before


async def _upload_large(service: MediaService, tenant: str, size: int) -> None:
    header = media_pb2.UploadHeader(request_id=uuid.uuid4().hex, tenant_id=tenant, size_bytes=size)
    mark = uuid.uuid4().bytes

    async def frames() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        yield media_pb2.UploadMediaRequest(header=header)
        yield media_pb2.UploadMediaRequest(chunk=mark)
        for at in range(len(mark), size, len(_PIECE)):
            yield media_pb2.UploadMediaRequest(chunk=_PIECE[: size - at])

    await service.media.UploadMedia(frames(), metadata=ADMIN, timeout=600)


async def _known_cpu_ms(service: MediaService, tenant: str, uploads: int) -> float:
    """The median of ten shares of the uploads."""
    photo = photograph(2400)
    await service.upload(tenant, photo)
    process, costs = psutil.Process(service.process.pid), []
    for _ in range(10):
        before = process.cpu_times()
        for _ in range(uploads // 10):
            await service.upload(tenant, photo)
        after = process.cpu_times()
        spent = after.user + after.system - before.user - before.system
        costs.append(spent * 1000 / (uploads // 10))
    return statistics.median(costs)


async def _are_kept(service: MediaService, tenant: str, files: Sequence[OddFile]) -> list[bool]:
    places = asyncio.Semaphore(ODD_AT_ONCE)

    async def is_kept(file: OddFile) -> bool:
        async with places:
            return await _is_kept(service, tenant, file)

    return await asyncio.gather(*(is_kept(file) for file in files))


async def _is_kept(service: MediaService, tenant: str, file: OddFile) -> bool:
    mime_type, name = (text.replace("\0", "\ufffd") for text in (file.mime_type, file.name))
    header = media_pb2.UploadHeader(
        request_id=uuid.uuid4().hex,
        size_bytes=len(file.data) if file.size is None else file.size,
        options=media_pb2.StorageOptions(mime_type=mime_type, file_name=name),
        origin=media_pb2.MEDIA_ORIGIN_NETWORK,
    )
    metadata = mesh_metadata(MESH_KEY, decode(Prefix.TENANT, tenant, "tenant_id"))
    try:
        await service.media.UploadMedia(upload_frames(header, file.data), metadata=metadata, timeout=300)
    except grpc.aio.AioRpcError:
        return False
    return True


def _pss_mb(pid: int) -> float:
    total = 0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6
