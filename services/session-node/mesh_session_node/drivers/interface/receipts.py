"""What networks tell of a message that many have: of all of them at once, and cheaply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import Receipt

MAX_MEMBERS = 1_024
"""Members that are told of at once; drivers cut longer lists into several."""


@dataclass(frozen=True, slots=True)
class MemberReceipts:
    """Members of a group, or people who see a post, for whom `receipt` holds of one message.

    `members` are their addresses, `times` when it happened, in microseconds since the epoch, one for each of
    them. `identities` says by address who they are, of those whom the connection was not told of before.
    """

    network_id: str
    receipt: Receipt
    members: Sequence[str]
    times: Sequence[int]
    identities: Mapping[str, Identity]
