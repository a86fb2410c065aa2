"""What a network may be able to do beside taking and bringing messages: which acts a driver declares, whose
protocols, one for each family, its links implement as far as that goes.

All acts return when the network has done what was asked, and raise `Refused` when it did not,
`ConnectionEnded` when there is no connection any more, and `TimeoutError` when the network does not answer:
then it may be done or not. Unless its protocol says otherwise an act sets something, so that doing it twice
is as doing it once.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from mesh_session_node.drivers.interface.contact_actions import ContactActions
from mesh_session_node.drivers.interface.message_actions import MessageActions


class Capability(Enum):
    """One act, in the words of docs/drivers.md."""

    STATUS = "status posts to the people named"
    STATUS_TO_CONTACTS = "status posts to all contacts, or all but some"
    EDIT = "editing messages"
    REVOKE = "taking messages back"
    PIN = "pinning messages"
    STAR = "starring messages"
    DELETE_FOR_ME = "deleting messages on the account's own devices"
    MARK_READ = "telling that messages were read or played"
    END_LIVE_LOCATION = "ending a live location before its time"
    TYPING = "showing that the account writes or records"
    CHECK_NUMBERS = "asking which numbers are on the network"
    BLOCK = "blocking people, and listing who is blocked"


class Acting(MessageActions, ContactActions, Protocol):
    """A link of a driver that could do everything; who has one calls only what its driver declares."""
