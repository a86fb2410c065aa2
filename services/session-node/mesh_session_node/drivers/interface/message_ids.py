"""The network's ids of our messages, where a network lets its clients make them."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

NETWORK_ID = "3EB0"
"""How the network's ids of our messages begin."""


def network_id_of(message: UUID) -> str:
    """The id that the network knows our message by: fixed before the first attempt, so that a resend is
    recognised.
    """
    return NETWORK_ID + message.hex.upper()


def message_of(network_id: str) -> UUID | None:
    """Our message behind a network id; None when the id is not one of ours."""
    if len(network_id) != 36 or not network_id.startswith(NETWORK_ID):
        return None
    try:
        return UUID(bytes.fromhex(network_id[4:]))
    except ValueError:
        return None
