"""Become a server that ends with its parent: `launcher.py PARENT_PID SIGNAL USER PROGRAM ARGUMENT...`.

Runs in a fresh interpreter between the parent and the server, because code between fork and exec is not
safe in a process with threads. Standard library only. USER is a user name, or `-` to stay who we are.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
PATH_CAPABILITIES = (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)


class CapabilityHeader(ctypes.Structure):
    """`struct __user_cap_header_struct` of capset(2)."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilitySet(ctypes.Structure):
    """`struct __user_cap_data_struct` of capset(2), for capabilities 0 to 31."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def main(arguments: list[str]) -> None:
    parent, signal, user, program, *rest = arguments
    os.umask(0o077)  # what it writes is for its user only, whatever the caller's umask
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if user != "-":
            become(libc, user)
        # After the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent ended before its server started")
    os.execv(program, [program, *rest])  # noqa: S606 - replacing this process is its purpose


def become(libc: ctypes.CDLL, user: str) -> None:
    """Change to `user`, keeping only root's right to reach any path.

    Postgres refuses uid 0, yet the checkout or the state directory may lie where only root may enter.
    """
    entry = pwd.getpwnam(user)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
    both = (CapabilitySet * 2)()
    libc.capget(ctypes.byref(header), both)
    kept = both[0].permitted & sum(1 << capability for capability in PATH_CAPABILITIES)
    both[0] = CapabilitySet(kept, kept, kept)
    both[1] = CapabilitySet(0, 0, 0)
    if libc.capset(ctypes.byref(header), both) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    for capability in PATH_CAPABILITIES:
        if kept & (1 << capability):
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
