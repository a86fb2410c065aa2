"""What a job may use: time and memory of its own, its folder, no network. A bomb ends its own job only."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from mesh_media.processing.jobs import Job

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG = 1
_LARGER = 1024 * 1024
"""By so much may what is made be larger than what came: as a film that is repacked."""
_TIMES = 4
"""So many times larger may be what networks could not show as it came."""

_libc = ctypes.CDLL(None, use_errno=True)


def cut_network() -> None:
    """Leave the network, where the kernel lets us. For a process with one thread."""
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWNET) == 0 or _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return
    with suppress(OSError):  # then files are made as before, but by a user without a name
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends."""
    die_with_parent()
    if os.getppid() != parent:  # it ended before that
        os._exit(1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def limit(job: Job) -> None:
    """Hold this process, and what it starts, to the job's limits."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _set(resource.RLIMIT_AS, used + job.memory_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_seconds, job.cpu_seconds + 1))
    _set(resource.RLIMIT_FSIZE, (1 if job.foreign else _TIMES) * job.size + _LARGER)
    _set(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    with suppress(OSError):  # the machine out of memory: better this than the service
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(job.niceness)
    os.chdir(job.folder)


def make_nothing_larger(job: Job) -> None:
    """From now on what is made may hardly be larger than what came."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(job.size + _LARGER, most), most))


def _set(limited: int, most: int) -> None:
    resource.setrlimit(limited, (most, most))
