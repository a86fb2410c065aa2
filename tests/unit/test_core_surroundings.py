"""Which releases may run beside each other, and how far clocks may be apart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mesh_core.errors import Misconfigured
from mesh_core.process import surroundings
from mesh_core.process.surroundings import WrongClock, check_clock, fits, refuse_full


@pytest.mark.parametrize(
    ("own", "other", "fit"),
    [
        ("0.2.0", "0.2.7", True),
        ("0.2.0", "0.1.9", True),
        ("0.2.0", "0.3.0rc1", True),
        ("0.3.0", "0.1.9", False),
        ("0.9.0", "0.10.0", True),
        ("1.0.0", "0.9.0", False),
        ("0.2.0", "", True),
        ("unknown", "0.2.0", True),
    ],
)
def test_releases_fit_that_are_one_minor_apart_or_tell_nothing(own: str, other: str, fit: bool) -> None:
    assert fits(own, other) is fit
    assert fits(other, own) is fit


class Postgres:
    """A database whose clock is so many seconds before ours."""

    def __init__(self, ahead: float) -> None:
        self.pool: Any = self
        self.ahead = ahead

    async def fetchval(self, _query: str) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("ahead", [-4.5, 0.0, 4.5])
async def test_clocks_may_be_five_seconds_apart(ahead: float) -> None:
    database: Any = Postgres(ahead)
    await check_clock(database)


@pytest.mark.parametrize(("ahead", "says"), [(-60.0, "60 s before that of"), (60.0, "60 s behind that of")])
async def test_a_clock_that_is_off_is_refused_with_the_remedy(ahead: float, says: str) -> None:
    database: Any = Postgres(ahead)
    with pytest.raises(WrongClock, match=f"{says}.*time server"):
        await check_clock(database)


def test_a_folder_without_room_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuse_full(tmp_path, "MESH_MEDIA_SPOOL")
    monkeypatch.setattr(surroundings, "is_full", lambda _folder: True)
    with pytest.raises(Misconfigured, match="is full: make room, or set MESH_MEDIA_SPOOL"):
        refuse_full(tmp_path, "MESH_MEDIA_SPOOL")
