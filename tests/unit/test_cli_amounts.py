"""Bytes, times and bars as `mesh media` reads and writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
import typer

from mesh_cli.commands.amounts import (
    BAR,
    bar,
    bytes_text,
    files_text,
    read_bytes,
    read_time,
    time_text,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 * 1024**2, "200 MiB"), (5 * 1024**5, "5120 TiB")],
)
def test_bytes_are_written_in_the_unit_that_fits(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_one_file_is_no_plural() -> None:
    assert [files_text(count) for count in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


@pytest.mark.parametrize(
    ("text", "size"), [("500", 500), ("20M", 20 << 20), ("1.5G", 3 << 29), ("2 KiB", 2048), ("0", 0)]
)
def test_bytes_are_read_with_and_without_units(text: str, size: int) -> None:
    assert read_bytes(text) == size


@pytest.mark.parametrize("days", [0, 1, 30, 3650])
def test_times_are_read_as_they_are_written(days: int) -> None:
    assert read_time(time_text(timedelta(days=days))) == timedelta(days=days)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1w", "1.5d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        read_time(text)


@pytest.mark.parametrize("text", ["", "M", "-5", "5X", "1e3"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        read_bytes(text)


@pytest.mark.parametrize(("share", "full"), [(-1, 0), (0, 0), (0.5, BAR // 2), (1, BAR), (7, BAR)])
def test_a_bar_is_as_long_as_its_share_and_never_longer(share: float, full: int) -> None:
    assert bar(share).count("█") == full
    assert len(bar(share)) == BAR
