"""The catalogue of events in the docs, made from the protos.

    python -m tests.event_catalogue

writes docs/event-catalogue.md: of every payload its types, when they come, its fields, and a sample; and
docs/event-samples.json, a sample of every type. A test holds both to the protos.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from mesh_webhook.events.catalogue import PAYLOADS
from mesh_webhook.events.rendering import event_json
from mesh_webhook.events.samples import sample
from sessionmesh.v1 import event_pb2

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "event-catalogue.md"
SAMPLES = ROOT / "docs" / "event-samples.json"
FIELD, MESSAGE = 2, 4
"""Where fields and messages stand in a descriptor: what paths of source information are made of."""

HEAD = """# The catalogue of events

Every payload, from the protos: its types, when they come, its fields, and what one looks like as the body
of a webhook. Fields that the sample lacks are empty then. [events.md](events.md) says what all events have in
common, and which types this version does not send yet. [event-samples.json](event-samples.json) has a sample
of every type: those that [TestEndpoint](webhooks.md#try-it) delivers.

This page is made by `python -m tests.event_catalogue`.
"""


def page() -> str:
    """The page as it should be."""
    comments = _comments()
    return HEAD + "".join(_section(name, comments) for name in PAYLOADS)


def samples() -> str:
    """The samples as they should be."""
    every = {kind: json.loads(event_json(sample(kind))) for types in PAYLOADS.values() for kind in types}
    return json.dumps(every, indent=2, ensure_ascii=False) + "\n"


def _section(name: str, comments: dict[str, str]) -> str:
    field = event_pb2.Event.DESCRIPTOR.fields_by_name[name]
    payload = field.message_type
    assert payload is not None
    rows = "".join(f"| `{one.name}` | {_type(one)} | {comments[one.full_name]} |\n" for one in payload.fields)
    shown = json.loads(event_json(sample(PAYLOADS[name][0])))
    body = json.dumps({"type": shown["type"], name: shown[name]}, indent=2, ensure_ascii=False)
    return (
        f"\n## `{name}`\n\n{comments[field.full_name]}\n\n{comments[payload.full_name]}\n\n"
        f"| field | type | |\n|---|---|---|\n{rows}\n```json\n{body}\n```\n"
    )


def _type(field: FieldDescriptor) -> str:
    kind = field.message_type or field.enum_type
    name = kind.name if kind else _SCALARS[field.type]
    return f"list of {name}" if field.is_repeated else name


def _comments() -> dict[str, str]:
    """The comment of every message and field of the protos, on one line, by its full name."""
    google = Path(next(iter(import_module("google.rpc").__path__))).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protos.binpb"
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT / 'protos'}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                f"--proto_path={google}",
                "--include_source_info",
                "--include_imports",
                f"--descriptor_set_out={out}",
                "sessionmesh/v1/event.proto",
            ]
        )
        if status:
            raise SystemExit(status)
        described = FileDescriptorSet.FromString(out.read_bytes())
    comments: dict[str, str] = {}
    for file in described.file:
        known = event_pb2.DESCRIPTOR.pool.FindFileByName(file.name)
        names = dict(_names(known.message_types_by_name.values()))
        for place in file.source_code_info.location:
            if (name := names.get(tuple(place.path))) is not None:
                comments[name] = re.sub(r"\s+", " ", place.leading_comments).strip()
    return comments


def _names(messages: Iterable[Descriptor]) -> Iterator[tuple[tuple[int, ...], str]]:
    """The paths of messages and their fields, with their full names."""
    for number, message in enumerate(messages):
        yield (MESSAGE, number), message.full_name
        for place, field in enumerate(message.fields):
            yield (MESSAGE, number, FIELD, place), field.full_name


_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


def main() -> None:
    """Writes both."""
    PAGE.write_text(page())
    SAMPLES.write_text(samples())


if __name__ == "__main__":
    main()
