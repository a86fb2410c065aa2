"""The options that say which files, of `mesh media ls` and `mesh media prune`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from mesh_cli.commands.media.amounts import read_bytes, read_time
from mesh_cli.commands.media.policy import category_of
from sessionmesh.v1 import media_pb2

AccountFilter = Annotated[
    str,
    typer.Option("--account", metavar="ACCOUNT_ID", help="Uploaded for it, or referred to by its messages."),
]
CategoryFilter = Annotated[
    str, typer.Option("--category", help="Referred to so: received, sent, status, view-once, revoked, ...")
]
TypeFilter = Annotated[str, typer.Option("--type", help="Types that begin so, such as video/.")]
OlderFilter = Annotated[str, typer.Option("--older-than", metavar="TIME", help="Such as 30d or 12h.")]
LargerFilter = Annotated[str, typer.Option("--larger-than", metavar="BYTES", help="Such as 20M.")]


def filter_of(account: str, category: str, type_: str, older: str, larger: str) -> media_pb2.MediaFilter:
    """What they say together."""
    wanted = media_pb2.MediaFilter(account_id=account, mime_type_prefix=type_)
    if category:
        wanted.category = category_of(category)
    if older:
        wanted.end_time.FromDatetime(datetime.now(UTC) - read_time(older))
    if larger:
        wanted.min_size_bytes = read_bytes(larger)
    return wanted
