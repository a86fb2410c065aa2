"""What tests of other languages build: once per content, in the cache of `make tools`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.tools import require_on_path, tools_folder

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos" / "sessionmesh"
STUBS = ROOT / "stubs"
STUBS_GENERATOR = ROOT / "deploy" / "tools" / "generate-stubs"
LAST_STUB = STUBS / "typescript" / "package.json"
"""What the generator writes at the end, when all else went well."""
BUILD_SECONDS = 600.0


def built_once(name: str, sources: Iterable[Path | str], build: Callable[[Path], None]) -> Path:
    """The folder that `build` has filled, now or earlier, from the same sources: files, folders and texts."""
    folder = tools_folder() / f"{name}-{_digest(sources)}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder.parent) as scratch:
            made = Path(scratch) / name
            made.mkdir()
            build(made)
            _publish(made, folder)
    return folder


def generated_stubs() -> Path:
    """The folder that `make stubs` writes, made anew if a proto or the generator is younger."""
    require_on_path("go", "the stubs of other languages")
    require_on_path("npm", "the stubs of other languages")
    if _outdated():
        run([str(STUBS_GENERATOR)], ROOT)
    return STUBS


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def _outdated() -> bool:
    sources = [*PROTOS.rglob("*.proto"), STUBS_GENERATOR]
    made = LAST_STUB.stat().st_mtime if LAST_STUB.exists() else 0.0
    return made < max(source.stat().st_mtime for source in sources)


def _digest(sources: Iterable[Path | str]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        for name, content in _contents(source):
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def _contents(source: Path | str) -> Iterable[tuple[str, bytes]]:
    if isinstance(source, str):
        yield "", source.encode()
    elif source.is_dir():
        for place in sorted(source.rglob("*")):
            if place.is_file():
                yield str(place.relative_to(source)), place.read_bytes()
    else:
        yield source.name, source.read_bytes()


def _publish(made: Path, folder: Path) -> None:
    """Another run of the tests may have been quicker."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(made)
