"""Backups of a mesh: its database, the log of what is written to it, and its files; and what restores them.

Here is why a backup or a restore does not begin, or ends: a sentence for who runs it, and an exit code.
"""

from __future__ import annotations

from typing import ClassVar


class BackupError(Exception):
    """What was stored before is as it was."""

    exit_code: ClassVar[int]


class Refused(BackupError):
    """It cannot work here, and nothing was begun; the message has the remedy."""

    exit_code = 78


class Damaged(BackupError):
    """What is stored is not what was stored, or not of this key."""

    exit_code = 65


class Failed(BackupError):
    """It ended in the middle, by no fault of what is stored."""

    exit_code = 74
