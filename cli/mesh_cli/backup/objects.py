"""The files of a mesh, media: each is stored once in the repository, whatever backups have it.

A stored object is its key, a line feed, and its bytes. Its name there is a hash of the key: keys tell what a
file is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from hashlib import sha256

from mesh_cli.backup import Damaged, Failed, Refused
from mesh_cli.backup.records import StoredFile
from mesh_cli.backup.repository import Repository
from mesh_cli.backup.streams import Bytes, opened, sealed
from mesh_core.errors import DataLoss, MeshError, StartupError
from mesh_core.settings import ObjectsSettings
from mesh_media.stores.named_stores import Stores, open_stores
from mesh_media.stores.object_store import FoundObject

_PAGE = 1000
_AT_ONCE = 8


async def open_objects(settings: ObjectsSettings) -> Stores:
    """The mesh's files. Raises `Refused`."""
    try:
        return await open_stores(settings)
    except StartupError as error:
        raise Refused(f"MESH_OBJECTS_URL: {error}") from None


async def copy_objects(
    stores: Stores, repository: Repository, recipient: str, known: Mapping[str, StoredFile]
) -> tuple[dict[str, StoredFile], int]:
    """Stores what is not stored yet; returns all objects by name, and their bytes. `known` are those of the
    backup before. What is deleted meanwhile is left out.
    """
    stored: dict[str, StoredFile] = {}
    size = 0
    room = asyncio.Semaphore(_AT_ONCE)

    async def copy(found: FoundObject, name: str) -> None:
        try:
            stored[name] = await repository.store(name, sealed(_with_key(stores, found), recipient))
        except (FileNotFoundError, DataLoss):
            return  # deleted since it was listed
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            async for found in _all(stores):
                name = _name(found.key)
                size += found.size
                if name in known:
                    stored[name] = known[name]
                    continue
                await room.acquire()
                tasks.create_task(copy(found, name), name=f"copy {name}")
    except* (Damaged, Failed, MeshError) as errors:
        raise _first(errors) from None
    return stored, size


def listed(objects: Mapping[str, StoredFile]) -> bytes:
    """The list of a backup's objects as it is stored."""
    return b"".join(f"{one.name} {one.size} {one.sha256}\n".encode() for _, one in sorted(objects.items()))


async def read_list(repository: Repository, file: StoredFile) -> dict[str, StoredFile]:
    """Raises `Damaged`."""
    lines = b"".join([chunk async for chunk in repository.read(file)]).decode().splitlines()
    found = (line.split() for line in lines)
    return {name: StoredFile(name, int(size), digest) for name, size, digest in found}


async def refuse_objects(stores: Stores) -> None:
    """Raises `Refused` for a store that has some: whose are they?"""
    async for found in _all(stores):
        raise Refused(f"MESH_OBJECTS_URL has objects already, such as {found.key}: give an empty store")


async def put_back(
    repository: Repository, objects: Mapping[str, StoredFile], stores: Stores, identity: str
) -> int:
    """Stores a backup's objects where they were; returns how many. Raises `Damaged`."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(file: StoredFile) -> None:
        try:
            async with aclosing(opened(repository.read(file), identity, file.name)) as plain:
                key, first = await _key(plain, file.name)
                await stores.put(key, _joined(first, plain))
        except MeshError as error:
            raise Failed(f"{file.name} cannot be put back: {error}") from None
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            for file in objects.values():
                await room.acquire()
                tasks.create_task(one(file), name=f"put back {file.name}")
    except* (Damaged, Failed, MeshError) as errors:
        raise _first(errors) from None
    return len(objects)


async def check_objects(repository: Repository, objects: Mapping[str, StoredFile], identity: str) -> None:
    """Reads and opens all of them. Raises `Damaged`."""
    for file in objects.values():
        async for _ in opened(repository.read(file), identity, file.name):
            pass


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _all(stores: Stores) -> AsyncIterator[FoundObject]:
    for name in stores.names:
        after = ""
        while page := await stores.page_of(name, after, _PAGE):
            for found in page:
                if not found.unfinished:
                    yield found
            after = page[-1].key


async def _with_key(stores: Stores, found: FoundObject) -> Bytes:
    yield f"{found.key}\n".encode()
    async with aclosing(stores.get(found.key, 0, found.size)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _key(plain: Bytes, name: str) -> tuple[str, bytes]:
    head = b""
    async for chunk in plain:
        head += chunk
        key, end, rest = head.partition(b"\n")
        if end:
            return key.decode(), rest
    raise Damaged(f"{name} is damaged: it has no key")


async def _joined(first: bytes, rest: Bytes) -> Bytes:
    if first:
        yield first
    async for chunk in rest:
        yield chunk


def _name(key: str) -> str:
    digest = sha256(b"sessionmesh object " + key.encode()).hexdigest()[:40]
    return f"objects/{digest[:2]}/{digest}.gz.age"
