"""Limits that hold over several calls: each grants what it says, and refuses the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from grpc import StatusCode

from mesh_core.rpc.auth import new_api_key
from sessionmesh.v1.authorization_pb2 import SCOPE_READ
from tests.hostile.edges import EDGES
from tests.support.api_methods import named
from tests.support.fuzz.calls import Answer, RawCaller
from tests.support.fuzz.valid import message
from tests.support.fuzz.world import TENANT_SCOPES, Fields, World, new_phone, new_request, response_of, unique

CALLS = 2500
"""Of each class that an account may be asked in a day: few, to be met soon, and for so long that none comes
back while the test runs on a slow machine.
"""
ENVIRONMENT = {
    "MESH_LIMITS_ACCOUNT": f"message={CALLS}/86400s,instance_operation={CALLS}/86400s,query={CALLS}/86400s"
}
"""What the mesh is started with."""
MANY = 30
Check = Callable[[World], Awaitable[bool]]


async def calls_about_an_account(world: World) -> bool:
    """Of each class; what one account has used up, another has still."""
    spare, other = [(await world("CreateAccount", account={})).account.id for _ in range(2)]
    for name in ("GetAccount", "UpdateAccount"):
        fields = {"account_id": spare} | (
            {} if name == "GetAccount" else {"account": {}, "update_mask": {"paths": ["labels"]}}
        )
        answers = await _at_once(world.tenant, name, fields, CALLS + 100)
        refused = sum(answer.reason == "RATE_LIMITED" for answer in answers)
        next_one = await _often(world.tenant, name, fields | {"account_id": other}, 1)
        if not 0 < refused <= 100 or not next_one[0].ok:
            return False
    return True


async def messages_to_be_sent(world: World) -> bool:
    """Each of a batch counts, and only those over the limit are refused."""
    account_id = (await world("CreateAccount", account={})).account.id
    results = []
    for _ in range(3):
        messages = [message(world) | {"account_id": account_id, "request_id": unique()} for _ in range(1000)]
        results += (await world("BatchSendMessages", messages=messages)).results
    limited = [one for one in results if one.error.code == StatusCode.RESOURCE_EXHAUSTED.value[0]]
    return 3000 - CALLS - 100 <= len(limited) <= 3000 - CALLS


async def calls_of_a_tenant(world: World) -> bool:
    """`calls_per_second` of its settings."""
    settings = {"calls_per_second": 20}
    poor = await _tenant(world, settings)
    answers = await _often(poor, "ListAccounts", {}, MANY * 3)
    passed = sum(answer.ok for answer in answers)
    return 20 <= passed < MANY * 3 and all(answer.ok or answer.reason == "RATE_LIMITED" for answer in answers)


async def accounts_of_a_tenant(world: World) -> bool:
    """`max_accounts`, however many are asked for at once."""
    poor = await _tenant(world, {"max_accounts": 2})
    return _grants_all_but(await _made(poor, "CreateAccount", "account", 5), 3, "QUOTA_EXCEEDED")


async def endpoints_of_a_tenant(world: World) -> bool:
    """`max_endpoints`, however many are asked for at once."""
    poor = await _tenant(world, {"max_endpoints": 2})
    url = {"url": world.live["url"]}
    return _grants_all_but(await _made(poor, "CreateEndpoint", "endpoint", 5, url), 3, "QUOTA_EXCEEDED")


async def secrets_of_a_key(world: World) -> bool:
    """Five earlier ones that are still good."""
    key_id = (await world("CreateApiKey", scopes=[SCOPE_READ])).api_key.id
    fields = {"key_id": key_id, "overlap": {"seconds": 3600}}
    return _grants_all_but(await _often(world.tenant, "RotateApiKey", fields, 6), 1, "TOO_MANY_SECRETS")


async def messages_that_wait(world: World) -> bool:
    """The outbox of an account that is offline."""
    phone = new_phone()
    account = {"phone": phone, "send_limits": {"outbox": 3}}
    account_id = (await world("CreateAccount", account=account)).account.id
    await world.pair(account_id, phone)
    await world("Disconnect", account_id=account_id)
    fields = message(world) | {"account_id": account_id}
    fields.pop("request_id")
    return _grants_all_but(await _often(world.tenant, "SendMessage", fields, 4), 1, "OUTBOX_FULL")


async def trials_of_an_endpoint(world: World) -> bool:
    """TestEndpoint, in a minute."""
    endpoint = (await world("CreateEndpoint", endpoint={"url": world.live["url"]})).endpoint
    answers = await _often(world.tenant, "TestEndpoint", {"endpoint_id": endpoint.id}, MANY)
    refused = [answer for answer in answers if not answer.ok]
    return 0 < len(refused) < MANY and all(answer.reason == "RATE_LIMITED" for answer in refused)


async def guesses_from_an_address(world: World) -> bool:
    """Keys of the right form that do not exist; keys in use go on. The last one: it closes the address to
    keys that were not seen before.
    """
    guessers = [RawCaller(world.admin.channel, new_api_key()[1]) for _ in range(110)]
    answers = [(await _often(guesser, "ListAccounts", {}, 1))[0] for guesser in guessers]
    unknown = sum(answer.reason == "CREDENTIALS_INVALID" for answer in answers)
    refused = sum(answer.reason == "RATE_LIMITED" for answer in answers)
    goes_on = (await _often(world.tenant, "ListAccounts", {}, 1))[0].ok
    return goes_on and unknown + refused == 110 and 0 < refused <= 10


OVER_CALLS: tuple[Check, ...] = (
    calls_about_an_account,
    messages_to_be_sent,
    calls_of_a_tenant,
    accounts_of_a_tenant,
    endpoints_of_a_tenant,
    secrets_of_a_key,
    messages_that_wait,
    trials_of_an_endpoint,
    guesses_from_an_address,
)


def names() -> list[str]:
    """Of all limits."""
    return [*(edge.name for edge in EDGES), *(check.__name__ for check in OVER_CALLS)]


async def refusing(world: World) -> list[str]:
    """The names of the limits that grant what they say and refuse more."""
    kept = [edge.name for edge in EDGES if await edge.refuses(world)]
    return kept + [check.__name__ for check in OVER_CALLS if await check(world)]


async def _tenant(world: World, settings: dict[str, int]) -> RawCaller:
    """A new tenant's caller."""
    made = await world("CreateTenant", tenant={"external_id": unique("poor"), "settings": settings})
    method = named("CreateApiKey")
    request = new_request(method, {"tenant_id": made.tenant.id, "scopes": TENANT_SCOPES})
    key = await world.admin(method, [request.SerializeToString()])
    return RawCaller(world.admin.channel, response_of(method, key).secret)


async def _often(caller: RawCaller, name: str, fields: Fields, times: int) -> list[Answer]:
    """The answers to one call after the other."""
    method = named(name)
    return [await caller(method, [new_request(method, fields).SerializeToString()]) for _ in range(times)]


async def _at_once(caller: RawCaller, name: str, fields: Fields, times: int) -> list[Answer]:
    """The same, many at a time."""
    turns = [_often(caller, name, fields, times // MANY) for _ in range(MANY)]
    return [answer for answers in await asyncio.gather(*turns) for answer in answers]


async def _made(
    caller: RawCaller, name: str, field: str, times: int, fields: Fields | None = None
) -> list[Answer]:
    """The answers to creating several at once."""
    method = named(name)
    requests = [new_request(method, {field: fields or {"phone": new_phone()}}) for _ in range(times)]
    return list(await asyncio.gather(*(caller(method, [one.SerializeToString()]) for one in requests)))


def _grants_all_but(answers: Iterable[Answer], refused: int, reason: str) -> bool:
    answers = list(answers)
    over = [answer for answer in answers if not answer.ok]
    return len(over) == refused and all(answer.reason == reason for answer in over)
