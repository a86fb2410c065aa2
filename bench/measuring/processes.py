"""Processes under measurement: started from this tree, measured from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def start_module(module: str, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """`python -m module` with this process's import path; its log goes to the answer's `stderr`."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def cpu_seconds_of_tree(pid: int) -> float:
    """User and system time of a process, its living descendants, and the children that it has reaped."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_kb(pid: int) -> float:
    """Memory of one process, shared pages divided among those who share them, in kB."""
    return float(psutil.Process(pid).memory_full_info().pss) / 1024
