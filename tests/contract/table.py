"""The table of docs/drivers.md: what each driver can do, as its world in the contract says. Written anew with
`python -m tests.contract.table`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

from mesh_session_node.drivers.interface.capabilities import Capability
from sessionmesh.v1 import content_pb2
from tests.support.driver_capabilities import Can
from tests.support.driver_worlds import WORLDS

PAGE = Path(__file__).parents[2] / "docs" / "drivers.md"
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table() -> str:
    """The table in Markdown."""
    kinds = WORLDS.values()
    sendable = [cast("Collection[str]", kind.driver.content_kinds) for kind in kinds]
    acts = [cast("Collection[Capability]", kind.driver.capabilities) for kind in kinds]
    contents = content_pb2.Content.DESCRIPTOR.fields_by_name
    lines = [
        "| | " + " | ".join(WORLDS) + " |",
        "|---" * (len(WORLDS) + 1) + "|",
        *(_row(can.value, [can in kind.can for kind in kinds]) for can in Can),
        *(_row(act.value, [act in one for one in acts]) for act in Capability),
        *(_row(f"content `{one}`", [one in sent for sent in sendable]) for one in contents),
    ]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + "\n" + table() + "\n" + _END + after


def _row(what: str, has: list[bool]) -> str:
    return f"| {what} | " + " | ".join("yes" if one else "-" for one in has) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
