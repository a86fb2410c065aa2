"""`mesh session`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict, ParseError

from mesh_cli.commands.output import AsJson, as_dict, print_table
from mesh_cli.commands.target import AccountArgument, call
from mesh_client import Client
from sessionmesh.v1 import session_pb2 as pb

app = typer.Typer(help="Sessions: how accounts behave on their network.", no_args_is_help=True)


@app.command()
def settings(
    context: typer.Context,
    account_id: AccountArgument,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a setting, such as auto_read=true, pacing.max_gap=8s, "
            "warm_up.messages_per_day=[20,50,100]; without a value it goes back to its default. May be "
            "repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how an account's session behaves, and change it. What is not shown is the mesh's default."""
    wanted = [assignment(text) for text in set_ or ()]

    async def work(client: Client) -> pb.SessionSettings:
        asked = pb.GetSessionSettingsRequest(account_id=account_id)
        present = (await client.sessions.GetSessionSettings(asked)).settings
        if not wanted:
            return present
        given, paths = changed(present, wanted)
        request = pb.UpdateSessionSettingsRequest(
            account_id=account_id, settings=given, update_mask=FieldMask(paths=paths)
        )
        return (await client.sessions.UpdateSessionSettings(request)).settings

    shown = as_dict(call(context, work))
    if as_json:
        print(json.dumps(shown))
        return
    del shown["etag"]
    print_table(("setting", "value"), [(name, _text(value)) for name, value in _flat(shown)])


def assignment(text: str) -> tuple[str, Any]:
    """A setting's path and its value; None: there is none. Raises `typer.BadParameter`."""
    path, equals, value = text.partition("=")
    name, _, inner = path.partition(".")
    field = pb.SessionSettings.DESCRIPTOR.fields_by_name.get(name)
    message = None if field is None else field.message_type
    if not equals or field is None or (inner and (message is None or inner not in message.fields_by_name)):
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE with one of {', '.join(_FIELDS)}")
    if not value:
        return path, None
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def changed(
    present: pb.SessionSettings, wanted: Iterable[tuple[str, Any]]
) -> tuple[pb.SessionSettings, list[str]]:
    """The settings to send, with the etag of the present ones, and the mask's paths. Of a setting that has
    parts the parts that are not named stay. Raises `typer.BadParameter`.
    """
    said: dict[str, Any] = as_dict(present)
    paths: dict[str, None] = {}
    for path, value in wanted:
        name, _, inner = path.partition(".")
        paths[name] = None
        target, key = said, name
        if inner:
            target, key = said.setdefault(name, {}), inner
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    try:
        return ParseDict(said, pb.SessionSettings()), [*paths]
    except ParseError as error:
        raise typer.BadParameter(str(error)) from None


def _flat(shown: dict[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in shown.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_FIELDS = [name for name in pb.SessionSettings.DESCRIPTOR.fields_by_name if name not in ("has_proxy", "etag")]
