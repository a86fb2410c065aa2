"""The source address of a call: the other end of its connection, or who a trusted proxy says it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mesh_core.rpc.limits import RelayedCalls, Sources, relayed_metadata

PROXY = "ipv4:10.1.2.3:5000"


@dataclass
class Call:
    """What the chassis knows of a call."""

    sent_by: str
    headers: tuple[tuple[str, str], ...] = ()

    def peer(self) -> str:
        return self.sent_by

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.headers


def forwarded(*values: str) -> Call:
    return Call(PROXY, (("x-other", "1"), *(("x-forwarded-for", value) for value in values)))


@pytest.fixture
def behind_proxies() -> Sources:
    return Sources(("10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::"),
        ("ipv6:[2001:db8::ffff:1]:5000", "2001:db8::"),
        ("ipv6:[::ffff:192.0.2.1]:5000", "192.0.2.1"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::"),
        ("unix:/run/mesh.sock", ""),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_the_other_end_of_the_connection_is_the_source(peer: str, source: str) -> None:
    assert Sources().of(Call(peer)) == source


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        (["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.9.9.9, fd00::1"], "192.0.2.1"),
        (["2001:db8::5"], "2001:db8::"),
        (["192.0.2.1:443"], "192.0.2.1"),
        (["[2001:db8::5]:443"], "2001:db8::"),
        (["[2001:db8::5]"], "2001:db8::"),
        (["nonsense, 10.9.9.9"], "10.9.9.9"),
        (["192.0.2.1, nonsense"], "10.1.2.3"),
        ([""], "10.1.2.3"),
        ([], "10.1.2.3"),
        (["10.9.9.9"], "10.9.9.9"),
    ],
)
def test_behind_trusted_proxies_it_is_the_last_address_that_is_none_of_theirs(
    behind_proxies: Sources, header: list[str], source: str
) -> None:
    assert behind_proxies.of(forwarded(*header)) == source


def test_what_others_write_about_their_address_counts_for_nothing(behind_proxies: Sources) -> None:
    stranger = Call("ipv4:192.0.2.1:5000", (("x-forwarded-for", "198.51.100.7"),))
    assert behind_proxies.of(stranger) == "192.0.2.1"
    assert Sources().of(forwarded("198.51.100.7")) == "10.1.2.3"


def test_only_the_meshs_own_key_proves_that_a_call_was_passed_on() -> None:
    [(_, proof)] = relayed_metadata("the-key-of-this-mesh")
    assert proof in RelayedCalls("the-key-of-this-mesh")
    assert "the-key-of-this-mesh" not in proof
    for other in (RelayedCalls("another-mesh's-key"), RelayedCalls("")):
        assert proof not in other
    assert "" not in RelayedCalls("")
    assert relayed_metadata("") == ()
