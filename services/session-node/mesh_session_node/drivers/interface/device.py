"""What an account's owner wants of its device on the network, and what its connections go through."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, looked up and found to be allowed. Drivers connect to `address`, whatever the name in `url`
    means by then.
    """

    url: str = field(repr=False)
    """`http://`, `https://` or `socks5://`, with the user and the password where it has them."""
    host: str
    """An IP address, without brackets."""
    port: int

    @property
    def address(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password, empty where there is none."""
        parts = urlsplit(self.url)
        return unquote(parts.username or ""), unquote(parts.password or "")


@dataclass(frozen=True, slots=True)
class NewDevice:
    """What the account's owner wants of the device that is paired."""

    name: str = ""
    """What the phone shows of it; empty: the driver's own."""
    with_history: bool = False
    """The phone is asked for the chats' past."""
    proxy: Proxy | None = None
    """What its connections go through, also that of the pairing."""


PLAIN_DEVICE = NewDevice()
"""One of which nothing was said."""
