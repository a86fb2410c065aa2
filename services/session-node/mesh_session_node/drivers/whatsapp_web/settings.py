"""Settings of the driver whatsapp_web."""

from __future__ import annotations

import msgspec

from mesh_core.settings import InvalidSetting


class WhatsappWebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which sidecar runs the linked devices, and how."""

    sidecar: str = ""
    """The program; empty: `whatsapp-web-sidecar` beside Python's own programs, or on PATH."""
    device_name: str = "Sessionmesh"
    """What linked devices call themselves on the phone."""
    start_seconds: float = 10.0
    """A sidecar that does not answer for so long after its start is killed."""
    hang_seconds: float = 5.0
    """A sidecar that runs and does not answer for so long is killed."""
    login_seconds: float = 30.0
    """How long a connection and its login may take."""
    history_seconds: float = 25.0
    """How long an account's phone may take to answer what it has of a chat."""
    test_network: str = ""
    """host:port of a network to test with, in place of WhatsApp; empty: WhatsApp."""
    test_root: str = ""
    """The public key (32 bytes) that the test network's certificates are signed with, in hexadecimal."""

    def __post_init__(self) -> None:
        for key in ("start_seconds", "hang_seconds", "login_seconds"):
            if not 0 < getattr(self, key) <= 3600:
                raise InvalidSetting(key, "must be above 0 and at most 3600")
        if not 0 < self.history_seconds <= 30:
            raise InvalidSetting("history_seconds", "must be above 0 and at most 30")
        if not 0 < len(self.device_name) <= 50:
            raise InvalidSetting("device_name", "must have 1 to 50 characters")
        if bool(self.test_network) != bool(self.test_root):
            raise InvalidSetting("test_root", "must be set together with MESH_WHATSAPP_WEB_TEST_NETWORK")
        if self.test_root and len(self.root) != 32:
            raise InvalidSetting("test_root", "must be 32 bytes in hexadecimal")

    @property
    def root(self) -> bytes:
        """The test network's public key; empty when there is none, or none that can be read."""
        try:
            return bytes.fromhex(self.test_root)
        except ValueError:
            return b""
