"""Addresses on the simulated network, and the ids that belong to a phone number.

Their grammar is that of `mesh_core.addresses`. A phone number has one user id (its digits) and one hidden id
(a digest of it). Both are computed, so nothing needs to be stored for people who have no account.
"""

from __future__ import annotations

from hashlib import blake2b

from mesh_core import addresses
from mesh_core.errors import InvalidField

PHONE = "phone:"
USER = "user:"
GROUP = "group:"
CHANNEL = "channel:"
HIDDEN = "hidden:"
USERNAME = "username:"
STATUS = "status"


def split_address(address: str) -> tuple[str, str]:
    """An address' kind, as PHONE and the others above, and its value."""
    kind, colon, value = address.partition(":")
    return kind + colon, value


def is_phone(text: str) -> bool:
    """Whether `text` is a phone number in E.164."""
    try:
        return addresses.parse("", text) == PHONE + text
    except InvalidField:
        return False


def user_id_of(phone: str) -> str:
    """The user id that belongs to a phone number."""
    return phone[1:]


def hidden_id_of(phone: str) -> str:
    """The hidden id that belongs to a phone number."""
    return str(int.from_bytes(blake2b(phone.encode(), digest_size=7, person=b"hidden").digest(), "big"))
