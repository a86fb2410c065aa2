"""Bytes and times as people write them, and bars."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

BAR = 30
"""Characters of a full bar."""


def bytes_text(size: int) -> str:
    """Such as 1.5 GiB."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def files_text(count: int) -> str:
    """Such as 1 file."""
    return f"{count} file" if count == 1 else f"{count} files"


def read_bytes(text: str) -> int:
    """Such as 500, 20M or 1.5G; units are powers of 1,024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not an amount such as 20M or 1.5G")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def time_text(time: timedelta) -> str:
    """Such as 30d or 12h."""
    seconds = int(time.total_seconds())
    for unit, size in _UNITS.items():
        if seconds and not seconds % size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def read_time(text: str) -> timedelta:
    """Such as 30d, 12h, 90m, 60s or 0."""
    found = re.fullmatch(r"(\d+)([dhms]?)", text.strip())
    if found is None or (found[1].strip("0") and not found[2]):
        raise typer.BadParameter(f"{text!r} is not a time such as 30d or 12h")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2] or "s"])


def bar(share: float) -> str:
    """A share of 0 to 1, `BAR` characters wide."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR * 8)
    part = _PARTS[eighths % 8] if eighths % 8 else ""
    return ("█" * (eighths // 8) + part).ljust(BAR)


_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PARTS = " ▏▎▍▌▋▊▉"
