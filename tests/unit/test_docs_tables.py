"""README and the tables of docs/api.md and docs/events.md say what the protos and the code say."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from mesh_core.message_status import FOLLOWING
from mesh_router.proxy.routes import SERVICES
from sessionmesh.v1 import errors_pb2, event_pb2, message_pb2

ROOT = Path(__file__).parents[2]
API, EVENTS = (ROOT / "docs" / f"{page}.md" for page in ("api", "events"))
PROTOS = ROOT / "protos" / "sessionmesh" / "v1"


def table(page: Path, *headings: str) -> list[list[str]]:
    """The cells of the rows below these headings."""
    _, below = page.read_text().split(f"| {' | '.join(headings)} |\n")
    rows = takewhile(lambda line: line.startswith("|"), below.splitlines())
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows][1:]


def test_every_service_stands_with_who_serves_it() -> None:
    parts = {
        "the session-node that owns the account": "owner",
        "any session-node": "node",
        "the simulated network, where one runs": "simulator",
    }
    listed = {
        service: parts.get(part, part)
        for services, part in table(API, "service", "served by")
        for service in services.split(", ")
    }
    assert listed == {name.rsplit(".", 1)[1]: destination.value for name, destination in SERVICES.items()}


def test_what_may_follow_a_status_is_what_the_code_lets_follow() -> None:
    listed = {old: new.split(", ") for old, new in table(API, "after", "may come")}
    assert listed == {_status(old): [_status(status) for status in new] for old, new in FOLLOWING.items()}


def test_every_reason_stands_beside_the_code_it_comes_with() -> None:
    listed = {
        reason: code
        for code, reasons, _ in table(API, "code", "reasons", "with")
        for reason in re.findall(r"\b[A-Z][A-Z_]+\b", reasons)
    }
    comments = re.findall(r"// ([A-Z_]+): (?:.*\n(?:  //.*\n)*)  ERROR_REASON_(\w+) =", _proto("errors"))
    assert listed == {reason: code for code, reason in comments}
    assert len(listed) == len(errors_pb2.ErrorReason.keys()) - 1


def test_every_type_of_event_stands_with_its_payload() -> None:
    listed = {
        payload.strip("`"): re.findall(r"`([\w.]+)`", types)
        for payload, types, _ in table(EVENTS, "payload", "types", "when")
    }
    _, payloads = _proto("event").split("oneof payload {\n")
    comments = re.findall(r"((?:    //.*\n)+)    \w+ (\w+) = \d+;", payloads.split("\n  }\n")[0])
    types = {name: re.findall(r"`(\w+\.\w+)`", comment.partition("; ")[0]) for comment, name in comments}
    assert listed == types
    assert listed.keys() == {field.name for field in event_pb2.Event.DESCRIPTOR.oneofs[0].fields}


def _proto(name: str) -> str:
    return (PROTOS / f"{name}.proto").read_text()


def _status(number: int) -> str:
    name: str = message_pb2.MessageStatus.Name(number)  # type: ignore[arg-type]  # a number
    return name.removeprefix("MESSAGE_STATUS_")
