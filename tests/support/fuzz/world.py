"""A tenant with one of everything in a running mesh, and requests about it."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pyvips
from google.protobuf import message_factory
from google.protobuf.message import Message

from mesh_cli.embedded import free_port
from sessionmesh.v1.authorization_pb2 import (
    SCOPE_MANAGE,
    SCOPE_OPERATOR,
    SCOPE_READ,
    SCOPE_SEND,
    SCOPE_TENANT_ADMIN,
)
from sessionmesh.v1.session_pb2 import SESSION_STATE_CONNECTED
from tests.support.api_methods import ApiMethod, named
from tests.support.eventually import eventually
from tests.support.fuzz.calls import Answer, RawCaller

CHANNEL_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
SPARES = 3
"""How many there are of each resource that random requests may name."""
TENANT_SCOPES = (SCOPE_READ, SCOPE_SEND, SCOPE_MANAGE, SCOPE_TENANT_ADMIN)
Fields = dict[str, Any]
UNLIMITED: Fields = {"per_minute": 100_000, "per_hour": 100_000, "per_day": 100_000}
"""Limits that let a message go at once, however many went before it: some calls wait for that."""


@dataclass(slots=True)
class World:
    """`live` has ids by the name of the field that takes them; `spare` the same of what may be destroyed.

    `strangers` are ids of another tenant's, by their prefix.
    """

    admin: RawCaller
    tenant: RawCaller
    live: dict[str, str] = field(default_factory=dict)
    spare: dict[str, list[str]] = field(default_factory=dict)
    strangers: dict[str, str] = field(default_factory=dict)

    async def without_scope(self, scope: int) -> RawCaller:
        """Somebody of the tenant with a key for all but this scope."""
        scopes = [each for each in TENANT_SCOPES if each != scope]
        made = await self("CreateApiKey", scopes=scopes)
        return RawCaller(self.admin.channel, made.secret)

    def caller(self, method: ApiMethod) -> RawCaller:
        """Who has the key for a method, and no more."""
        return self.admin if is_operators(method) else self.tenant

    async def __call__(self, name: str, /, **fields: Any) -> Any:
        """The response of a method; fails when it is not OK. An account that just went to another node is
        waited for.
        """
        method = named(name)
        request = new_request(method, fields).SerializeToString()
        answer = await self.caller(method)(method, [request])
        if answer.reason == "NOT_CONNECTED" and fields["account_id"] == self.live["account_id"]:
            await self.connected()
            answer = await self.caller(method)(method, [request])
        assert answer.ok, f"{name} {fields}: {answer}"
        return response_of(method, answer)

    async def connected(self) -> Fields:
        """The account, whose session other requests may have paused, as a field of a request."""
        account = {"account_id": self.live["account_id"]}

        async def online() -> bool:
            session = (await self("GetSession", **account)).session
            return bool(session.state == SESSION_STATE_CONNECTED)

        if not await online():
            await self("Connect", **account)
            await eventually(online)
        return account

    async def upload(self) -> str:
        """A picture of its own; its id."""
        data = picture()
        method = named("UploadMedia")
        header = {"request_id": unique(), "size_bytes": len(data), "options": {"file_name": "dot.png"}}
        frames = [new_request(method, {"header": header}), new_request(method, {"chunk": data})]
        answer = await self.tenant(method, [frame.SerializeToString() for frame in frames])
        assert answer.ok, answer
        return str(response_of(method, answer).media.id)

    async def pair(self, account_id: str, phone: str) -> None:
        """Pair an account by QR, and wait until it is online."""
        while not await self._paired(account_id, phone):
            pass

        async def online() -> bool:
            session = (await self("GetSession", account_id=account_id)).session
            return bool(session.state == SESSION_STATE_CONNECTED)

        await eventually(online, what=f"{account_id} online")

    async def _paired(self, account_id: str, phone: str) -> bool:
        """Whether an attempt came to its end: the account may go to another node, as in a new mesh."""
        try:
            async with aclosing(self._pairing(account_id, _PAIRING_SECONDS)) as steps:
                async for step in steps:
                    if step.WhichOneof("step") == "qr":
                        await self("AcceptPairing", qr=step.qr.text, phone=phone)
        except grpc.aio.AioRpcError as error:
            if "paired already" in str(error.details()):
                return True  # it was stored as the account left
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    async def shown_qr(self, account_id: str) -> str:
        """The first picture that an attempt to pair shows."""
        return str((await self.shown_step(account_id)).qr.text)

    async def shown_step(self, account_id: str) -> Any:
        """An attempt's step that shows its first picture, wherever the account goes meanwhile."""
        while True:
            try:
                async with aclosing(self._pairing(account_id, _SHOWN_SECONDS)) as steps:
                    async for step in steps:
                        if step.WhichOneof("step") == "qr":
                            return step
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                continue
            raise AssertionError(f"no picture was shown for {account_id}")

    async def _pairing(self, account_id: str, seconds: int) -> AsyncGenerator[Any, None]:
        method = named("Pair")
        request = new_request(
            method, {"account_id": account_id, "timeout": {"seconds": seconds}}
        ).SerializeToString()
        async with aclosing(self.tenant.frames(method, request)) as frames:
            async for frame in frames:
                yield response_of(method, Answer(grpc.StatusCode.OK, response=frame))


_PAIRING_SECONDS, _SHOWN_SECONDS = 60, 5
"""How long an attempt may take that is accepted, and one that nobody looks at after its first picture."""


def is_operators(method: ApiMethod) -> bool:
    """Whether a tenant's key would not do: all jobs that there are belong to the operator."""
    return method.scope == SCOPE_OPERATOR or "JobService" in method.short


def new_request(method: ApiMethod, fields: Fields) -> Message:
    """A request, with a fresh request_id where there is such a field and none is given."""
    if "request_id" in method.request.fields_by_name:
        fields = {"request_id": unique()} | fields
    return message_factory.GetMessageClass(method.request)(**fields)


def response_of(method: ApiMethod, answer: Answer) -> Any:
    return message_factory.GetMessageClass(method.response).FromString(answer.response)


def is_id(value: object) -> bool:
    """Whether it looks like the id of one of our resources."""
    return isinstance(value, str) and re.fullmatch(r"[a-z]{3}_[0-9A-Z]{26}", value) is not None


def unique(prefix: str = "fuzz") -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


def new_phone() -> str:
    return f"+4917{secrets.randbelow(10**9):09}"


def picture() -> bytes:
    """A PNG that no other test has."""
    pixels = pyvips.Image.new_from_memory(secrets.token_bytes(12), 2, 2, 3, "uchar")
    return bytes(pixels.write_to_buffer(".png"))


def in_an_hour() -> Fields:
    """A Timestamp."""
    return {"seconds": int(time.time()) + 3_600}


@asynccontextmanager
async def open_world(address: str, admin_key: str) -> AsyncIterator[World]:
    """A new tenant of the mesh at `address`, with one of everything, and another tenant beside it."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        admin = RawCaller(channel, admin_key)
        other = await _new_tenant(World(admin, admin))
        world = await _new_tenant(World(admin, admin))
        for tenant in (other, world):
            await _settle(tenant)
        world.strangers = {value[:3]: value for value in other.live.values() if is_id(value)}
        for _ in range(SPARES):
            await _add_spares(world)
        yield world


async def _new_tenant(founder: World) -> World:
    """A world that is still empty, with a key that may do everything in it."""
    made = await founder("CreateTenant", tenant={"external_id": unique("tenant")})
    key = await founder("CreateApiKey", tenant_id=made.tenant.id, scopes=TENANT_SCOPES)
    ids = {"tenant_id": made.tenant.id, "key_id": key.api_key.id}
    return World(founder.admin, RawCaller(founder.admin.channel, key.secret), ids)


async def _settle(world: World) -> None:
    """Fill `live`."""
    live = world.live
    live["url"] = f"http://127.0.0.1:{free_port()}/hook"  # nobody listens: attempts fail at once
    live["endpoint_id"] = (await world("CreateEndpoint", endpoint={"url": live["url"]})).endpoint.id
    for name in ("", "spare_"):
        live[f"{name}phone"] = phone = new_phone()
        account = {"phone": phone, "send_limits": UNLIMITED}
        live[f"{name}account_id"] = (await world("CreateAccount", account=account)).account.id
        await world.pair(live[f"{name}account_id"], phone)
    live["media_id"] = await world.upload()
    live["message_id"] = await send(world, f"phone:{live['spare_phone']}")
    members = [live["phone"], live["spare_phone"]]
    group = (await world("CreateNetworkGroup", subject="Fuzz", members=members)).group
    live["group_message_id"] = await send(world, group.address)
    live["node_id"] = (await world("ListNodes")).nodes[-1].id
    live["job_id"] = await _cancelled_drain(world)

    async def delivery() -> str | None:
        deliveries = (await world("ListDeliveries")).deliveries
        return str(deliveries[0].id) if deliveries and deliveries[0].attempts else None

    live["delivery_id"] = await eventually(delivery, what="an attempt to deliver")
    live["cursor"] = (await world("ListEvents", page_size=1)).next_cursor
    live["name"] = (await world("CreateSubscription", subscription={"name": "fuzz"})).subscription.name


async def _cancelled_drain(world: World) -> str:
    """A job that may be cancelled over and over. A drain that ends by itself before is no such job."""
    node, cancel = world.live["node_id"], named("CancelJob")
    while True:
        job = (await world("DrainNode", node_id=node, force=True)).job.id
        answer = await world.admin(cancel, [new_request(cancel, {"job_id": job}).SerializeToString()])
        if answer.ok:
            return str(job)
        assert answer.reason == "JOB_ENDED", answer
        await world("UndrainNode", node_id=node)


async def _add_spares(world: World) -> None:
    """One more of each resource that nobody will miss."""
    phone = new_phone()
    account = world("CreateAccount", account={"phone": phone})
    key = world("CreateApiKey", scopes=[SCOPE_READ])
    tenant = world("CreateTenant", tenant={"external_id": unique("tenant")})
    endpoint = world("CreateEndpoint", endpoint={"url": world.live["url"], "event_types": ["webhook.test"]})
    network = world("CreateNetworkAccount", phone=phone)
    message = send(world, f"phone:{world.live['spare_phone']}")
    made = await asyncio.gather(account, key, tenant, endpoint, world.upload(), message, network)
    ids = {
        "account_id": made[0].account.id,
        "key_id": made[1].api_key.id,
        "tenant_id": made[2].tenant.id,
        "endpoint_id": made[3].endpoint.id,
        "media_id": made[4],
        "message_id": made[5],
        "phone": phone,
        "delivery_id": world.live["delivery_id"],
        "job_id": world.live["job_id"],
    }
    for name, spare in ids.items():
        world.spare.setdefault(name, []).append(spare)


async def send(world: World, recipient: str) -> str:
    """A text from the world's account; its id."""
    sent = await world(
        "SendMessage",
        account_id=world.live["account_id"],
        recipient=recipient,
        content={"text": {"body": "Hello"}},
    )
    return str(sent.message.id)
