"""What the documentation says of drivers is what the contract holds them to."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contract.table import PAGE, page
from tests.support.driver_capabilities import Can


def test_the_documentation_has_the_contracts_table() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run python -m tests.contract.table"


def test_every_row_of_the_table_is_asked_of_drivers_by_some_case() -> None:
    folder = Path(__file__).parent
    suite = "".join(
        (folder / f"test_{name}.py").read_text()
        for name in ("driver_contract", "notices", "chat_actions", "group_notices")
    )
    needed = {name for asked in re.findall(r"@needs\((.*?)\)", suite) for name in asked.split(", ")}
    assert [can.name for can in Can if f"Can.{can.name}" not in needed] == []


def test_no_world_leaves_cases_out_by_itself() -> None:
    support = Path(__file__).parents[1] / "support"
    worlds = [*support.glob("*_world*.py")]
    assert {"memory_world.py", "simulator_world.py", "whatsapp_web_world.py"} < {one.name for one in worlds}
    assert [one.name for one in worlds if "pytest.skip(" in one.read_text()] == []
