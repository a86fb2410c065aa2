"""The ledger: an append-only file of records; without a path, a temporary file that ends with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import time_ns
from typing import BinaryIO

from mesh_simulator.ledger.records import (
    MAGIC,
    NO_ACCOUNT,
    NO_DIGEST,
    Kind,
    Record,
    pack_head,
    read_records,
    size_of_whole_records,
)

_MAX_UNWRITTEN_BYTES = 256 * 1024


class Ledger:
    """Appends records and reads them back. With a path, every record is in the file after `flush`."""

    def __init__(self, path: Path | None) -> None:
        self._durable = path is not None
        self._file: BinaryIO = path.open("a+b") if path else tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the ledger
        if self._file.seek(0, os.SEEK_END) < len(MAGIC):
            self._file.truncate(0)
            self._file.write(MAGIC)
        else:
            self._file.truncate(size_of_whole_records(self._file))
            self._file.seek(0, os.SEEK_END)
        self._file.flush()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.counts = [0] * (max(Kind) + 1)
        """Records appended by this process, by kind."""

    def append(
        self,
        kind: Kind,
        connection: int = 0,
        account: int = NO_ACCOUNT,
        counter: int = 0,
        code: int = 0,
        digest: bytes = NO_DIGEST,
        text: str = "\0",
        body: bytes = b"",
    ) -> None:
        """Add a record with the present time. `account` is the account's number, `text` is `id NUL peer`."""
        tail = text.encode() + b"\0" + body if body else text.encode()
        record = (
            pack_head(kind, time_ns() // 1000, connection, account, counter, code, digest, len(tail)) + tail
        )
        self._pending.append(record)
        self._pending_bytes += len(record)
        self.counts[kind] += 1

    def flush(self) -> None:
        """Write what was appended. To be called before a client is sent anything that follows from it.

        A temporary file outlives no crash, so there small writes are put together first.
        """
        if self._pending and (self._durable or self._pending_bytes > _MAX_UNWRITTEN_BYTES):
            self._write()

    def read(self) -> Iterator[Record]:
        """Every record up to now. The iterator may be used in another thread while more is appended."""
        self._write()
        return self._read_from(f"/proc/self/fd/{self._file.fileno()}")  # a file position of its own

    def close(self) -> None:
        self._write()
        self._file.close()

    @staticmethod
    def _read_from(path: str) -> Iterator[Record]:
        with open(path, "rb") as file:
            yield from read_records(file)

    def _write(self) -> None:
        self._file.write(b"".join(self._pending))
        self._file.flush()
        self._pending.clear()
        self._pending_bytes = 0
