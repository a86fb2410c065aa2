"""Hosts that no webhook may go to, in every spelling that a URL has for them."""

from __future__ import annotations

from tests.support.api_methods import named
from tests.support.fuzz.calls import Answer
from tests.support.fuzz.world import World, new_request

FORBIDDEN = (
    *(f"127.0.0.{last}" for last in (1, 53, 255)),
    *("127.1", "127.0.1", "0", "0.0.0.0", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "2130706433"),
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "\u2113ocalhost",
        "127。0。0。1",
        "\uff11\uff12\uff17.0.0.1",
    ),
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "169.254.169.254"),
    *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255", "192.88.99.1"),
    *("[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]"),
    *("[2002:7f00:1::]", "[2002:a00:1::]", "[2001:db8::1]", "[100::1]", "[fe80::1%25lo]"),
    *("a..b", ".", "..", "", "a" * 64 + ".example.com", "-.example.com", "a b", "exa\u0000mple.com"),
)
PUBLIC = "1.1.1.1"
"""A host that webhooks may go to."""


async def refused(world: World) -> list[str]:
    """The forbidden hosts that no endpoint was made for."""
    reasons = {"INVALID_FIELD", "ADDRESS_FORBIDDEN"}
    return [host for host in FORBIDDEN if (await _created(world, host)).reason in reasons]


async def takes(world: World, host: str) -> bool:
    """Whether an endpoint is made for it."""
    return (await _created(world, host)).ok


async def _created(world: World, host: str) -> Answer:
    method = named("CreateEndpoint")
    request = new_request(method, {"endpoint": {"url": f"http://{host}/hook"}})
    return await world.tenant(method, [request.SerializeToString()])
