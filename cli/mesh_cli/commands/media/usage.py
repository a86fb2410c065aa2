"""`mesh media usage`: what is stored, as bars."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mesh_cli.commands.amounts import bar, bytes_text, files_text
from mesh_cli.commands.output import MAX_PAGE, as_dict, print_table
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import media_pb2


async def read_usage(client: Client, tenant_id: str) -> media_pb2.GetMediaUsageResponse:
    return await client.media.GetMediaUsage(media_pb2.GetMediaUsageRequest(tenant_id=tenant_id))


async def read_accounts(client: Client, tenant_id: str) -> list[media_pb2.AccountMediaUsage]:
    """Those with the most bytes: a page of them."""
    request = media_pb2.ListAccountMediaUsageRequest(tenant_id=tenant_id, page_size=MAX_PAGE)
    return list((await client.media.ListAccountMediaUsage(request)).accounts)


def print_usage(usage: media_pb2.GetMediaUsageResponse, *, as_json: bool) -> None:
    """How full it is, and of what and how old it is."""
    if as_json:
        print(json.dumps(as_dict(usage)))
        return
    stored = usage.stored
    if usage.HasField("max_bytes"):
        used = stored.size_bytes + usage.reserved_bytes
        share = used / usage.max_bytes if usage.max_bytes else 1.0
        say(f"{bar(share)} {share:.0%} of {bytes_text(usage.max_bytes)}")
    say(
        f"{files_text(stored.objects)}, {bytes_text(stored.size_bytes)}; saved by compressing "
        f"{bytes_text(usage.compressed_bytes)}, by sharing {bytes_text(usage.shared_bytes)}"
    )
    for title, names, shares in (
        (
            "category",
            media_pb2.MediaCategory.items(),
            [(each.category, each.stored) for each in usage.by_category],
        ),
        ("age", media_pb2.MediaAge.items(), [(each.age, each.stored) for each in usage.by_age]),
    ):
        say("")
        texts = {number: name.removeprefix(f"MEDIA_{title.upper()}_").lower() for name, number in names}
        _print_shares(title, [(texts.get(number, str(number)), count) for number, count in shares])


def print_accounts(accounts: Sequence[media_pb2.AccountMediaUsage], *, as_json: bool) -> None:
    """What each account's messages refer to."""
    if as_json:
        for account in accounts:
            print(json.dumps(as_dict(account)))
        return
    _print_shares("account", [(account.account_id, account.stored) for account in accounts])


def _print_shares(title: str, shares: Sequence[tuple[str, media_pb2.MediaCount]]) -> None:
    most = max((count.size_bytes for _, count in shares), default=0)
    print_table(
        (title, "files", "bytes", ""),
        [
            (
                name,
                str(count.objects),
                bytes_text(count.size_bytes),
                bar(count.size_bytes / most if most else 0),
            )
            for name, count in shares
        ],
    )
