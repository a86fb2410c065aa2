"""Addresses whose calls are refused over and over lose the connections of those calls, and no others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pytest

from mesh_core.errors import InvalidArgument, Unauthenticated
from mesh_core.rpc.limits.entry import Sources
from mesh_core.rpc.server import refusals
from mesh_core.rpc.server.connections import Peer, peer_of
from mesh_core.rpc.server.refusals import Refusals

REFUSED = Unauthenticated("unknown", "CREDENTIALS_INVALID")


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a call's context."""

    connection: str

    def peer(self) -> str:
        return self.connection

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-forwarded-for", "203.0.113.9"),)


class Ended:
    """Stands in for what ends connections."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    def __call__(self, peers: Collection[Peer]) -> int:
        self.peers += peers
        return len(peers)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSED_OF_ADDRESS", 10)
    monkeypatch.setattr(refusals, "REFUSED_OF_CONNECTION", 3)


async def refused(connection: str, times: int, *proxies: str, error: Exception = REFUSED) -> Refusals:
    """One that has counted so many refusals of a connection."""
    counted = Refusals(Sources(proxies), Ended())
    for _ in range(times):
        counted.count(error, Call(connection))
    await counted.close()
    return counted


@pytest.mark.parametrize(("times", "ends"), [(12, False), (13, True)])
async def test_a_connection_ends_after_a_few_refusals_that_its_address_had_too_many_of(
    times: int, ends: bool
) -> None:
    counted = await refused("ipv4:203.0.113.1:50", times)
    assert counted.ended(Call("ipv4:203.0.113.1:50")) is ends
    assert not counted.ended(Call("ipv4:203.0.113.1:51"))


async def test_refusals_of_other_connections_of_an_address_count_with_it() -> None:
    ended = Ended()
    counted = Refusals(Sources(), ended)
    for port in range(10):
        counted.count(REFUSED, Call(f"ipv4:203.0.113.1:{port}"))
    for _ in range(5):
        counted.count(REFUSED, Call("ipv4:203.0.113.1:70"))
        counted.count(REFUSED, Call("ipv4:203.0.113.2:80"))
    await counted.close()
    assert ended.peers == [("203.0.113.1", 70)]


async def test_an_address_begins_anew_with_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "WINDOW_SECONDS", 0.0)
    counted = await refused("ipv4:203.0.113.1:50", 30)
    assert not counted.ended(Call("ipv4:203.0.113.1:50"))


async def test_a_trusted_proxys_connection_stays() -> None:
    counted = await refused("ipv4:10.0.0.1:50", 30, "10.0.0.0/8")
    assert not counted.ended(Call("ipv4:10.0.0.1:50"))


async def test_calls_that_fail_for_another_reason_do_not_count() -> None:
    counted = await refused("ipv4:203.0.113.1:50", 30, error=InvalidArgument("no", "INVALID_FIELD"))
    assert not counted.ended(Call("ipv4:203.0.113.1:50"))


async def test_a_port_that_is_given_out_again_is_another_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "LEFT_SECONDS", 0.0)
    counted = await refused("ipv4:203.0.113.1:50", 30)
    assert not counted.ended(Call("ipv4:203.0.113.1:50"))


async def test_addresses_beyond_those_remembered_push_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_ADDRESSES", 2)
    counted = Refusals(Sources(), Ended())
    for host in (1, 2, 3):
        for _ in range(10):
            counted.count(REFUSED, Call(f"ipv4:203.0.113.{host}:50"))
    for host in (1, 3):
        for _ in range(3):
            counted.count(REFUSED, Call(f"ipv4:203.0.113.{host}:60"))
    await counted.close()
    assert [counted.ended(Call(f"ipv4:203.0.113.{host}:60")) for host in (1, 3)] == [False, True]


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ipv4:1.2.3.4:5", ("1.2.3.4", 5)),
        ("ipv6:[2001:db8::1]:5", ("2001:db8::1", 5)),
        ("ipv6:%5B::1%5D:5", ("::1", 5)),
        ("ipv6:[::ffff:1.2.3.4]:5", ("1.2.3.4", 5)),
        ("unix:/run/x", None),
    ],
    ids=["ipv4", "ipv6", "quoted", "mapped", "unix"],
)
def test_grpcs_name_of_a_peer_is_read(text: str, peer: Peer | None) -> None:
    assert peer_of(text) == peer
