"""The proxy of one account: what its connections go through."""

from __future__ import annotations

from dataclasses import dataclass, field


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
