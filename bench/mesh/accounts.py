"""A tenant with accounts that are paired and online, made through the API as a customer makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import grpc.aio

from mesh_core.rpc.channels import open_channel
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    authorization_pb2,
    session_pb2,
    session_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
)

_TIMEOUT = 60.0
"""Seconds for each call: with a deadline the router waits so long for an owner of the account."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant's key and its accounts' ids."""

    key: str
    accounts: list[str]


async def make_customer(
    address: str, admin_key: str, accounts: int, *, name: str = "bench", first: int = 0
) -> Customer:
    """A tenant with so many accounts, all connected. The simulated network must accept pairings by itself.

    Several customers need names of their own, and numbers of accounts: theirs begin with `first`.
    """
    async with open_channel(address) as channel:
        key = await make_tenant(channel, admin_key, name)
        return Customer(key, await _make_accounts(channel, key, range(first, first + accounts), _SIMULATED))


async def make_linked_customer(
    address: str, admin_key: str, accounts: int, *, name: str, first: int = 0
) -> Customer:
    """As `make_customer`, of the driver whatsapp_web: somebody scans each account's QR text."""
    async with open_channel(address) as channel:
        customer = Customer(await make_tenant(channel, admin_key, name), [])
    return await more_linked_accounts(address, admin_key, customer, accounts, first=first)


async def more_linked_accounts(
    address: str, admin_key: str, customer: Customer, accounts: int, *, first: int = 0
) -> Customer:
    """The customer with so many accounts more; the numbers of all begin with `first`."""
    async with open_channel(address) as channel:
        network = simulator_pb2_grpc.SimulatorServiceStub(channel)

        async def accept(phone: str, text: str) -> None:
            request = simulator_pb2.AcceptPairingRequest(qr=text, phone=phone)
            await network.AcceptPairing(request, metadata=_credentials(admin_key), timeout=_TIMEOUT)

        start = first + len(customer.accounts)
        linked = _Kind(account_pb2.DRIVER_WHATSAPP_WEB, accept, 8)
        made = await _make_accounts(channel, customer.key, range(start, start + accounts), linked)
        return Customer(customer.key, [*customer.accounts, *made])


def phone_of(number: int) -> str:
    """The phone number of an account, by its number."""
    return f"+49151{number:07}"


async def make_tenant(channel: grpc.aio.Channel, admin_key: str, name: str = "bench") -> str:
    """A new tenant's key."""
    tenants = tenant_pb2_grpc.TenantServiceStub(channel)
    metadata = _credentials(admin_key)
    tenant = tenant_pb2.Tenant(external_id=name, display_name="Benchmark")
    made = await tenants.CreateTenant(
        tenant_pb2.CreateTenantRequest(tenant=tenant, request_id=name), metadata=metadata, timeout=_TIMEOUT
    )
    key = await tenants.CreateApiKey(
        tenant_pb2.CreateApiKeyRequest(
            tenant_id=made.tenant.id,
            display_name="bench",
            request_id=f"{name}-key",
            scopes=[
                authorization_pb2.SCOPE_READ,
                authorization_pb2.SCOPE_SEND,
                authorization_pb2.SCOPE_MANAGE,
            ],
        ),
        metadata=metadata,
        timeout=_TIMEOUT,
    )
    return str(key.secret)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A driver, who accepts its pairings, called with phone and QR text, None where the network does, and how
    many are paired at once.
    """

    driver: account_pb2.Driver.ValueType
    accept: Callable[[str, str], Awaitable[None]] | None
    abreast: int


_SIMULATED = _Kind(account_pb2.DRIVER_SIMULATED, None, 60)


async def _make_accounts(
    channel: grpc.aio.Channel, key: str, numbers: Iterable[int], kind: _Kind
) -> list[str]:
    room = asyncio.Semaphore(kind.abreast)

    async def make(number: int) -> str:
        async with room:
            return await _make_account(channel, key, number, kind)

    return await asyncio.gather(*(make(number) for number in numbers))


async def _make_account(channel: grpc.aio.Channel, key: str, number: int, of: _Kind) -> str:
    metadata = _credentials(key)
    phone = phone_of(number)
    made = await account_pb2_grpc.AccountServiceStub(channel).CreateAccount(
        account_pb2.CreateAccountRequest(
            account=account_pb2.Account(external_id=f"bench-{number}", phone=phone, driver=of.driver),
            request_id=f"bench-{number}",
        ),
        metadata=metadata,
        timeout=_TIMEOUT,
    )
    account_id = str(made.account.id)
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    # What is cheaper: a picture is drawn for nobody, and from a code linked devices derive keys.
    method = session_pb2.PAIR_METHOD_CODE if of.accept is None else session_pb2.PAIR_METHOD_QR
    pairing = session_pb2.PairRequest(
        account_id=account_id, request_id=f"pair-{number}", method=method, phone=phone
    )
    accepted = False
    kind = None
    while kind != "paired":
        try:
            async for step in sessions.Pair(pairing, metadata=metadata, timeout=_TIMEOUT):
                pairing.attempt_id = step.attempt_id
                kind = step.WhichOneof("step")
                if kind == "qr" and of.accept is not None and not accepted:
                    accepted = True
                    await of.accept(phone, step.qr.text)
        except grpc.aio.AioRpcError as error:
            if not _moved(error):
                raise
        else:
            if kind != "paired":
                raise RuntimeError(f"{account_id} was not paired: {kind}")
    watch = session_pb2.WatchSessionRequest(account_id=account_id)
    while True:
        try:
            async for news in sessions.WatchSession(watch, metadata=metadata, timeout=_TIMEOUT):
                if news.session.state == session_pb2.SESSION_STATE_CONNECTED:
                    return account_id
        except grpc.aio.AioRpcError as error:
            if not _moved(error):
                raise
        else:
            raise RuntimeError(f"{account_id} is not online")


def _moved(error: grpc.aio.AioRpcError) -> bool:
    """Whether a stream ended because its account goes to another node, where it is opened again."""
    return error.code() is grpc.StatusCode.UNAVAILABLE


def _credentials(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)
