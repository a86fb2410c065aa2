"""What this process has counted of each tenant and not written yet. Counting is an addition in memory."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

COLUMNS = (
    "messages_sent",
    "messages_received",
    "media_uploaded_bytes",
    "media_downloaded_bytes",
    "webhook_attempts",
)
"""Of the table, as of `Used`."""


class Used:
    """What one tenant has used, and is not written yet: add to it, from the event loop."""

    __slots__ = COLUMNS

    def __init__(self) -> None:
        self.messages_sent = 0
        self.messages_received = 0
        self.media_uploaded_bytes = 0
        self.media_downloaded_bytes = 0
        self.webhook_attempts = 0

    def take(self) -> tuple[int, ...]:
        """All of it, by `COLUMNS`; nothing is left."""
        taken = tuple(getattr(self, name) for name in COLUMNS)
        for name in COLUMNS:
            setattr(self, name, 0)
        return taken

    def give_back(self, taken: tuple[int, ...]) -> None:
        """It could not be written."""
        for name, number in zip(COLUMNS, taken, strict=True):
            setattr(self, name, getattr(self, name) + number)


_all: dict[UUID, Used] = {}


def used_by(tenant: UUID) -> Used:
    """What this process counts of a tenant; always the same object."""
    found = _all.get(tenant)
    return _all.setdefault(tenant, Used()) if found is None else found


def take_all() -> dict[UUID, tuple[int, ...]]:
    """What was counted of each tenant that used anything, by `COLUMNS`; nothing is left."""
    return {tenant: numbers for tenant, used in _all.items() if any(numbers := used.take())}
