"""How one session behaves, as the account's owner said (SessionSettings); the node's own defaults are
`context.SessionSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionmesh.internal.v1.session_pb2 import StoredSettings
from sessionmesh.v1 import session_pb2 as pb


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The settings of one account, as its session has them and as its row stores them."""

    given: pb.SessionSettings = field(default_factory=pb.SessionSettings)
    """As they were given, without proxy and etag; what is absent is the mesh's default. Nobody changes it."""
    proxy_url: str = field(default="", repr=False)
    """Through which proxy it connects, with the user and password in it; empty: none."""
    version: int = 0
    """Rises with each update; 0: there was none."""
    pair_time: int | None = None
    """When the account was paired, or since when it warms up where that is not known; microseconds since the
    epoch.
    """
    stored: bytes = field(default=b"", repr=False)
    """The row's column: all of it, with the proxy sealed."""

    def updated(self, given: pb.SessionSettings, proxy_url: str, sealed_proxy_url: bytes) -> AccountSettings:
        """The next version."""
        stored = StoredSettings.FromString(self.stored)
        stored.given.CopyFrom(given)
        stored.sealed_proxy_url = sealed_proxy_url
        stored.version = self.version + 1
        return AccountSettings(
            given, proxy_url, stored.version, self.pair_time, stored.SerializeToString(deterministic=True)
        )

    def paired_at(self, micros: int) -> AccountSettings:
        """The same of an account that was paired then."""
        stored = StoredSettings.FromString(self.stored)
        stored.pair_time.FromMicroseconds(micros)
        return AccountSettings(
            self.given, self.proxy_url, self.version, micros, stored.SerializeToString(deterministic=True)
        )


NO_SETTINGS = AccountSettings()
"""Of an account that was given none, and was not paired since their times are kept."""


def settings_of(row: bytes, proxy_url: str) -> AccountSettings:
    """What a row has, with its proxy opened. Raises `DecodeError`."""
    if not row:
        return NO_SETTINGS
    stored = StoredSettings.FromString(row)
    pair_time = stored.pair_time.ToMicroseconds() if stored.HasField("pair_time") else None
    return AccountSettings(stored.given, proxy_url, stored.version, pair_time, row)


def proxy_binding(account: bytes) -> bytes:
    """What a sealed proxy belongs to, for the sealer: the account, by its 16 bytes."""
    return b"proxy" + account
