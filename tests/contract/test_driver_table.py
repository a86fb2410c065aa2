"""What the documentation says of drivers is what the contract holds them to."""

from __future__ import annotations

from pathlib import Path

from tests.contract.table import PAGE, page
from tests.support.driver_capabilities import Can


def test_the_documentation_has_the_contracts_table() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run python -m tests.contract.table"


def test_every_row_of_the_table_is_asked_of_drivers_by_some_case() -> None:
    suite = (Path(__file__).parent / "test_driver_contract.py").read_text()
    assert [can.name for can in Can if f"@needs(Can.{can.name})" not in suite] == []
