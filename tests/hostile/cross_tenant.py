"""Every method asked about what is another tenant's: it must be as if that did not exist."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from google.protobuf.message import Message

from sessionmesh.v1.authorization_pb2 import SCOPE_MANAGE, SCOPE_OPERATOR, SCOPE_READ, SCOPE_SEND
from tests.support.api_methods import ApiMethod
from tests.support.fuzz.calls import Answer, RawCaller
from tests.support.fuzz.valid import served_methods, valid_frames
from tests.support.fuzz.world import World, is_id, is_operators

AT_ONCE = 8
SECRETS = ("tenant_id", "key_id", "message_id", "media_id", "endpoint_id", "delivery_id", "phone")
"""Whose values a stranger's answer may hold only where its request did."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A call that told, or did, something of another tenant's."""

    method: str
    who: str
    what: str
    answer: Answer


async def leaks(world: World, stranger: World) -> tuple[int, list[Leak]]:
    """How many calls were made, and which leaked.

    `stranger` is another tenant: it makes each valid request of `world` with its own key, and with a key that
    is limited to one of its accounts. Somebody without a key makes them, too.
    """
    limited = await stranger(
        "CreateApiKey",
        scopes=[SCOPE_READ, SCOPE_SEND, SCOPE_MANAGE],
        account_ids=[stranger.live["account_id"]],
    )
    callers = {
        "another tenant": stranger.tenant,
        "another tenant's limited key": RawCaller(world.admin.channel, limited.secret),
        "nobody": RawCaller(world.admin.channel, ""),
    }
    turn = asyncio.Semaphore(AT_ONCE)

    async def judged(method: ApiMethod, who: str) -> Leak | None:
        async with turn:
            frames = await valid_frames(world, method)
            answer = await callers[who](method, [frame.SerializeToString() for frame in frames])
            what = _leaked(world, method, frames, answer)
            return Leak(method.short, who, what, answer) if what else None

    methods = [method for method in served_methods() if _is_about_tenants(method)]
    calls = [judged(method, who) for method in methods for who in callers]
    answers = await asyncio.gather(*calls)
    return len(calls), [leak for leak in answers if leak is not None]


def _is_about_tenants(method: ApiMethod) -> bool:
    """Operators' methods are refused for their scope alone."""
    return method.scope != SCOPE_OPERATOR and not is_operators(method)


def _leaked(world: World, method: ApiMethod, frames: list[Message], answer: Answer) -> str:
    """What an answer holds that the request did not, or what of the tenant's a call was OK about; "" for
    nothing.

    Filters may name what is another's: they let nothing through.
    """
    asked = b"".join(frame.SerializeToString() for frame in frames)
    for name in SECRETS:
        secret = world.live[name].encode()
        if secret in answer.response and secret not in asked:
            return name
    if not answer.ok or method.name.startswith("List"):
        return ""
    about = (field.name for field, value in frames[0].ListFields() if value in _ids(world))
    return next(about, "")


def _ids(world: World) -> list[str]:
    return [value for value in world.live.values() if is_id(value)]
