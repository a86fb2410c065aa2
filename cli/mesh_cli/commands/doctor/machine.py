"""`mesh doctor`: this machine, and the programs that `mesh up` starts."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from rich.filesize import decimal

from mesh_cli.commands.doctor.findings import Finding, good, judged, measured, warning, wrong
from mesh_cli.embedded.etcd import PROGRAM as ETCD
from mesh_cli.embedded.postgres import PROGRAM as POSTGRES
from mesh_cli.embedded.redis import PROGRAM as REDIS
from mesh_core.errors import MeshError
from mesh_core.process.start_checks import BESIDE_SESSIONS
from mesh_core.settings import BadSettings, NodeSettings, read

FREE_BYTES = 2_000_000_000
FREE_SHARE = 0.1
MEMORY_USED = (0.9, 0.97)
_CLOCK_UNSYNCHRONISED = 5
"""What adjtimex(2) returns while nobody keeps the clock right (TIME_ERROR)."""


class Usage(Protocol):
    """Bytes of a disk."""

    @property
    def total(self) -> int: ...
    @property
    def free(self) -> int: ...


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeSettings


def machine_findings(state: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that needs no server but the programs, which only `mesh up` starts."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield judged("Python", sys.version_info >= (3, 11), version, "Python 3.11 or newer is needed.")
    yield files_finding(resource.getrlimit(resource.RLIMIT_NOFILE), _capacity(environment))
    yield from _memory()
    yield from _clock()
    for subject, place in _folders(state, environment).items():
        yield room_finding(subject, shutil.disk_usage(place), place)


def program_findings() -> Iterator[Finding]:
    """Whether the servers that `mesh up` starts, where it is given none, can be found."""
    for name, program in _PROGRAMS.items():
        try:
            yield good("program", f"{name} {program.path()}")
        except MeshError as error:
            yield wrong("program", f"{name}: {error}", _NO_PROGRAM)


def files_finding(limits: tuple[int, int], capacity: int) -> Finding:
    """Whether a node of `capacity` sessions may open files enough; the soft limit it raises itself."""
    hard, needed = limits[1], capacity + BESIDE_SESSIONS
    enough = hard == resource.RLIM_INFINITY or hard >= needed
    most = "any number" if hard == resource.RLIM_INFINITY else f"at most {hard:,}"
    seen = f"{most}, a session-node needs {needed:,}"
    remedy = f"`ulimit -Hn {needed}`, LimitNOFILE= or the container's ulimits; or lower MESH_NODE_CAPACITY."
    return judged("open files", enough, seen, remedy)


def room_finding(subject: str, usage: Usage, place: Path) -> Finding:
    """Whether a disk has room."""
    seen = f"{decimal(usage.free)} of {decimal(usage.total)} free at {place}"
    if usage.free < FREE_BYTES:
        return wrong(subject, seen, f"Make room: {decimal(FREE_BYTES)} are needed.")
    if usage.free < FREE_SHARE * usage.total:
        return warning(subject, seen, "Make room, or a larger disk.")
    return good(subject, seen)


def memory_finding(total: int, available: int) -> Finding:
    """Of what may be used, in bytes: how much nobody uses."""
    seen = f"{decimal(available)} of {decimal(total)} available"
    remedy = "Accounts to other machines, or more memory: the kernel kills when there is none."
    return measured("memory", 1 - available / total, MEMORY_USED, seen, remedy)


def _capacity(environment: Mapping[str, str]) -> int:
    try:
        return read(_Node, environment).node.capacity
    except BadSettings:  # which is told where the settings are read
        return NodeSettings().capacity


def _memory() -> Iterator[Finding]:
    """Of the machine, or of the container where that may take less."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        table = {line[0]: int(line[1]) * 1024 for line in lines}
        total, available = table["MemTotal:"], table["MemAvailable:"]
    except (OSError, KeyError, ValueError):
        return
    try:
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, available = min(total, most), min(available, most - used)
    except (OSError, ValueError):  # no limit, which is the word max, or none that can be read
        pass
    yield memory_finding(total, available)


def _clock() -> Iterator[Finding]:
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # asks only: all zeros
    if state == _CLOCK_UNSYNCHRONISED:
        yield warning("NTP", "nobody keeps this machine's clock right", "Run chrony, or systemd-timesyncd.")
    elif state >= 0:
        yield good("NTP", "the clock is kept right")


def _folders(state: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """Where data go; what is not there yet will be on the disk of its parent."""
    spool = Path(environment.get("MESH_MEDIA_SPOOL") or tempfile.gettempdir())
    found = {"disk": _existing(state)}
    if os.stat(_existing(spool)).st_dev != os.stat(found["disk"]).st_dev:
        found["media's disk"] = _existing(spool)
    return found


def _existing(place: Path) -> Path:
    return next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())


_PROGRAMS = {"etcd": ETCD, "Postgres": POSTGRES, "Redis": REDIS}
_NO_PROGRAM = "`mesh up` cannot start it: install 'sessionmesh[servers]', or put the server on PATH."
