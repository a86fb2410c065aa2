"""A base backup as files: unpacked for a restore, or only looked at. Postgres' own manifest says what must
be there.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeVar, cast

import msgspec

from mesh_cli.backup import Damaged
from mesh_cli.backup.streams import CHUNK_BYTES, Bytes, Reader
from mesh_core.disk import naming_full_disk

T = TypeVar("T")
_MANIFEST = "backup_manifest"
_MANIFEST_BYTES = 1024**3


class _Entry(msgspec.Struct, rename={"path": "Path", "size": "Size", "checksum": "Checksum"}):
    path: str = ""
    size: int = 0
    checksum: str = ""


class _Manifest(msgspec.Struct, rename={"files": "Files"}):
    files: list[_Entry]


async def unpack(tar: Bytes, name: str, folder: Path | None) -> int:
    """Compares every file with the manifest, which comes last, and writes all below `folder`, which is
    there, where one is given. Returns how many. Raises `Damaged`, `DiskFull`.
    """

    def work(source: Reader) -> int:
        found: dict[str, tuple[int, str]] = {}
        manifest = b""
        with _read_tar(source) as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    if folder is not None:
                        archive.extract(member, folder, filter="data")
                elif path == _MANIFEST:
                    manifest = content.read(_MANIFEST_BYTES)
                else:
                    place = None if folder is None else _inside(folder, path, name)
                    found[path] = (member.size, _pass(content, place))
        return _compare(manifest, found, name)

    return await _beside(tar, work)


def _inside(folder: Path, path: str, name: str) -> Path:
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise Damaged(f"{name} has the file {path}, which is nowhere below it")
    return place


def _pass(content: IO[bytes], place: Path | None) -> str:
    """The hash of a file, which is written to `place` where one is given."""
    digest = sha256()
    with naming_full_disk(place.parent if place else ""), _open(place) as file:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            if file is not None:
                file.write(chunk)
    return digest.hexdigest()


def _open(place: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    if place is None:
        return nullcontext()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(place, "xb", opener=lambda path, flags: os.open(path, flags, 0o600))


def _read_tar(source: Reader) -> tarfile.TarFile:
    file = cast("IO[bytes]", source)  # all that is done with it is reading
    return tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK_BYTES)


def _compare(manifest: bytes, found: Mapping[str, tuple[int, str]], name: str) -> int:
    try:
        files = msgspec.json.decode(manifest, type=_Manifest).files
    except msgspec.DecodeError:
        raise Damaged(f"{name} has no manifest of its files") from None
    for one in files:
        if found.get(one.path) != (one.size, one.checksum):
            raise Damaged(f"{name} does not have {one.path} as its manifest says")
    return len(files)


async def _beside(tar: Bytes, work: Callable[[Reader], T]) -> T:
    loop = asyncio.get_running_loop()
    source = Reader(tar, loop)
    with ThreadPoolExecutor(1) as executor:
        try:
            return await loop.run_in_executor(executor, work, source)
        except Exception:  # as the library has worded it: what it read tells better
            if source.failure is not None:
                raise source.failure from None
            raise
        finally:
            await tar.aclose()
