"""Blobs: the files that messages refer to, in memory or in a folder, up to a bound."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

CHUNK_BYTES = 64 * 1024


class BlobStore:
    """Stores bytes under the hex of their SHA-256. When they are more than `max_total_bytes`, the oldest are
    deleted."""

    def __init__(self, folder: Path | None, max_total_bytes: int) -> None:
        self._folder = folder
        self._max_total_bytes = max_total_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._data: dict[str, bytes] = {}
        self.total_bytes = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
                if path.suffix:
                    path.unlink()  # a crash interrupted its writing
                    continue
                self._sizes[path.name] = path.stat().st_size
                self.total_bytes += self._sizes[path.name]

    def __contains__(self, ref: str) -> bool:
        return ref in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def put(self, data: bytes) -> str:
        """Store `data`; the same bytes twice are one blob."""
        ref = sha256(data).hexdigest()
        if ref in self._sizes:
            self._sizes.move_to_end(ref)
            return ref
        if self._folder is None:
            self._data[ref] = data
        else:
            part = self._folder / f"{ref}.part"
            part.write_bytes(data)
            part.rename(self._folder / ref)
        self._sizes[ref] = len(data)
        self.total_bytes += len(data)
        while self.total_bytes > self._max_total_bytes and len(self._sizes) > 1:
            self._drop_oldest()
        return ref

    def get(self, ref: str) -> bytes | None:
        """The bytes, or None when there is no such blob, or no longer."""
        if ref not in self._sizes:
            return None
        return self._data[ref] if self._folder is None else (self._folder / ref).read_bytes()

    def _drop_oldest(self) -> None:
        ref, size = self._sizes.popitem(last=False)
        self.total_bytes -= size
        if self._folder is None:
            del self._data[ref]
        else:
            (self._folder / ref).unlink()
