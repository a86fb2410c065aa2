"""Neighbours that hurt through the router and the sessions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from bench.fairness.attack import TIMEOUT, Attack, Neighbour, a_few_at_once, abreast
from bench.routing.ads_stream import METHOD, TYPES
from mesh_core.rpc.auth import new_api_key
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest
from sessionmesh.v1 import account_pb2, account_pb2_grpc, session_pb2, session_pb2_grpc
from tests.support.raw_http2 import rapid_resets, raw_connection

RESET_PATH = "/sessionmesh.v1.MessageService/SendMessage"


class AbandonedPairings(Attack):
    """A hundred accounts whose pairings are begun, and left after the first picture or half a second, twenty
    at a time.
    """

    async def prepare(self) -> None:
        accounts = account_pb2_grpc.AccountServiceStub(self.channel)
        made = await a_few_at_once(
            100,
            lambda: accounts.CreateAccount(
                account_pb2.CreateAccountRequest(account=account_pb2.Account(), request_id=self.unique()),
                metadata=self.metadata,
                timeout=TIMEOUT,
            ),
        )
        self._unpaired = [answer.account.id for answer in made]
        self._next = 0

    async def run(self) -> None:
        await abreast(20, self._pair)

    async def _pair(self, _which: int) -> None:
        sessions = session_pb2_grpc.SessionServiceStub(self.channel)
        self._next += 1
        request = session_pb2.PairRequest(
            account_id=self._unpaired[self._next % len(self._unpaired)],
            request_id=self.unique(),
            method=session_pb2.PAIR_METHOD_QR,
        )
        call = sessions.Pair(request, metadata=self.metadata, timeout=TIMEOUT)
        try:
            async with asyncio.timeout(0.5):
                await self.counted(call.read())
        except TimeoutError:
            self.outcomes["queued"] += 1
        finally:
            call.cancel()
        await asyncio.sleep(0.25)


class UnknownKeys(Attack):
    """Keys of the right form that nobody has, a new one for each call, sixteen at a time, without a pause."""

    async def run(self) -> None:
        await abreast(16, self._guess)

    async def _guess(self, _which: int) -> None:
        await self.counted(
            account_pb2_grpc.AccountServiceStub(self.channel).ListAccounts(
                account_pb2.ListAccountsRequest(),
                metadata=(("authorization", f"Bearer {new_api_key()[1]}"),),
                timeout=TIMEOUT,
            )
        )


class RapidResets(Attack):
    """Streams opened and reset at once, on one connection, as fast as the router takes them."""

    async def run(self) -> None:
        await abreast(1, self._reset)

    async def _reset(self, _which: int) -> None:
        async with raw_connection(self.neighbour.address) as connection:
            self.outcomes["streams"] += await rapid_resets(connection, RESET_PATH, 10_000)


class GreedyAds(Attack):
    """A hundred streams on ten connections, each with 4,000 names of each of four types, none of which exist;
    every other one with so few that the router takes them. They stay, or are opened again a second later.
    """

    def __init__(self, neighbour: Neighbour) -> None:
        super().__init__(neighbour)
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
        self._channels = [grpc.aio.insecure_channel(neighbour.address, options=options) for _ in range(10)]

    async def prepare(self) -> None:
        self._requests = [_requests(which, 200 if which % 2 else 4000) for which in range(10)]

    async def run(self) -> None:
        await abreast(100, self._subscribe)

    async def _subscribe(self, which: int) -> None:
        call: Any = self._channels[which % 10].stream_stream(METHOD)()
        self.outcomes["streams"] += 1
        try:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for request in self._requests[which // 10]:
                    await call.write(request)
                async for _ in call:
                    self.outcomes["responses"] += 1
            self.outcomes[(await call.code()).name] += 1
        finally:
            call.cancel()
        await asyncio.sleep(1.0)


def _requests(which: int, names: int) -> list[bytes]:
    """One for each type."""
    return [
        DiscoveryRequest(
            type_url=kind, resource_names=[f"stranger-{which}-{number:05}" for number in range(names)]
        ).SerializeToString()
        for kind in TYPES
    ]
