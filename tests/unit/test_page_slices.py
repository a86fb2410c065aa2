"""Pages that are made in slices of the event loop: others' work goes on meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core import slices
from mesh_core.ids import new_uuid
from mesh_core.paging import Pager


def rendered(row: str) -> StringValue:
    return StringValue(value=row)


async def test_a_page_in_slices_is_the_same_and_lets_others_work_between_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    pager, tenant = Pager(b"key"), new_uuid()
    page = pager.parse(50, "", b"")
    rows = [f"row {number}" for number in range(60)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(others(), name="others")
    async with pager.working(tenant) as shared:
        assert shared is pager.slices
        shown, token = await page.cut_in(shared, tenant, rows, rendered, str.encode)
        same = [await page.cut_in(shared, tenant, rows, rendered, str.encode) for _ in range(2)]
    working.cancel()
    assert (shown, token) == page.cut(rows, rendered, str.encode)
    assert same == [(shown, token)] * 2
    assert len(shown) == 50
    assert turns >= 50, "others had a turn between any two rows"
