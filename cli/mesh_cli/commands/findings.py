"""What `mesh doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was checked, whether it is good, what was found, and what to do if it is bad."""

    subject: str
    good: bool
    seen: str
    remedy: str = ""
