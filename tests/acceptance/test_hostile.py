"""Nothing that hostile tenants, strangers and foreign data try has an effect on others: `tests.hostile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.hostile.run import try_everything


async def test_a_hostile_tenant_a_stranger_and_foreign_data_harm_nobody(
    external_servers: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    report = await try_everything(tmp_path, external_servers)
    record_property("cross_tenant_leaks", report.figures["leaks"])
    assert report.faults == []
    figures = report.figures
    assert figures["loops"] == figures["loops_poisoned_alive"] > 50
    assert figures["limits"] == figures["limits_refusing"] > 30
    assert (figures["leaks"], figures["cross_tenant_calls"] > 100) == (0, True)
    assert figures["hosts"] == figures["hosts_refused"]
