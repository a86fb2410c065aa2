"""`mesh media policy`: shows how long files are kept, and changes it."""

from __future__ import annotations

import json
from collections.abc import Iterable

import typer

from mesh_cli.commands.amounts import bytes_text, read_bytes, read_time, time_text
from mesh_cli.commands.output import as_dict, print_table
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import media_pb2

Rules = dict[int, media_pb2.RetentionRule]
FOR_EVER = "forever"


async def read_policy(client: Client, tenant_id: str) -> media_pb2.GetMediaPolicyResponse:
    return await client.media.GetMediaPolicy(media_pb2.GetMediaPolicyRequest(tenant_id=tenant_id))


async def change_rules(
    client: Client, tenant_id: str, keep: Iterable[str], limit: Iterable[str], reset: Iterable[str]
) -> None:
    """Changes the rules of some categories: `keep` and `limit` are CATEGORY=VALUE, `reset` has categories
    that get the mesh's rule again. The others stay; a change by somebody else meanwhile is not undone.
    """
    found = (await read_policy(client, tenant_id)).policy
    rules: Rules = {rule.category: rule for rule in found.retention_rules}
    for name in reset:
        rules.pop(category_of(name), None)
    for category, text in map(_assignment, keep):
        rule = rules.setdefault(category, media_pb2.RetentionRule(category=category))
        rule.ClearField("keep_for")
        if text != FOR_EVER:
            rule.keep_for.FromTimedelta(read_time(text))
    for category, text in map(_assignment, limit):
        rule = rules.setdefault(category, media_pb2.RetentionRule(category=category))
        rule.max_bytes = read_bytes(text)
    policy = media_pb2.MediaPolicy(retention_rules=rules.values(), etag=found.etag)
    await change(client, tenant_id, policy, "retention_rules")


async def change(client: Client, tenant_id: str, policy: media_pb2.MediaPolicy, path: str) -> None:
    """Changes one part of it."""
    request = media_pb2.UpdateMediaPolicyRequest(tenant_id=tenant_id, policy=policy)
    request.update_mask.paths.append(path)
    await client.media.UpdateMediaPolicy(request)


def print_policy(found: media_pb2.GetMediaPolicyResponse, *, as_json: bool) -> None:
    """Every category with the rule that holds for it, and whose it is."""
    if as_json:
        print(json.dumps(as_dict(found)))
        return
    level = found.policy.compression or media_pb2.COMPRESSION_BALANCED
    name = media_pb2.Compression.Name(level).removeprefix("COMPRESSION_").lower()
    say(f"compression {name}, originals {'kept' if found.policy.keep_original else 'not kept'}\n")
    own = {rule.category: rule for rule in found.policy.retention_rules}
    meshs = {rule.category: rule for rule in found.default_retention_rules}
    print_table(
        ("category", "kept", "at most", "by"),
        [
            (name, *_rule_texts(own.get(number) or meshs.get(number)), "tenant" if number in own else "mesh")
            for name, number in _CATEGORIES.items()
        ],
    )


def category_of(name: str) -> media_pb2.MediaCategory.ValueType:
    """The category that is named so, in lower case and with hyphens."""
    number = _CATEGORIES.get(name.lower().replace("_", "-"))
    if number is None:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(_CATEGORIES)}")
    return media_pb2.MediaCategory.ValueType(number)


def _assignment(text: str) -> tuple[media_pb2.MediaCategory.ValueType, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not CATEGORY=VALUE")
    return category_of(name), value


def _rule_texts(rule: media_pb2.RetentionRule | None) -> tuple[str, str]:
    if rule is None:
        return FOR_EVER, ""
    kept = time_text(rule.keep_for.ToTimedelta()) if rule.HasField("keep_for") else FOR_EVER
    return kept, bytes_text(rule.max_bytes) if rule.HasField("max_bytes") else ""


_CATEGORIES = {
    name.removeprefix("MEDIA_CATEGORY_").lower().replace("_", "-"): number
    for name, number in media_pb2.MediaCategory.items()
    if number
}
