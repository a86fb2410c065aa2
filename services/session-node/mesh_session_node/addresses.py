"""Addresses as text, for rows and drivers: `phone:+4915112345678`, `user:...`, `group:...`, `hidden:...`."""

from __future__ import annotations

from sessionmesh.v1.common_pb2 import Recipient

_PREFIX = {"phone": "phone:", "user_id": "user:", "group_id": "group:", "hidden_id": "hidden:"}
_FIELD = {"phone": "phone", "user": "user_id", "group": "group_id", "hidden": "hidden_id"}


def address_of(recipient: Recipient) -> str:
    """The text of a recipient; "" when none is set."""
    kind = recipient.WhichOneof("kind")
    return "" if kind is None else _PREFIX[kind] + getattr(recipient, kind)


def recipient_of(address: str) -> Recipient:
    """The recipient behind a text; an unknown form is taken for a person's id."""
    prefix, _, rest = address.partition(":")
    field = _FIELD.get(prefix)
    if field is None:
        return Recipient(user_id=address)
    recipient = Recipient()
    setattr(recipient, field, rest)
    return recipient


def is_group(address: str) -> bool:
    """Whether it is a group's."""
    return address.startswith("group:")
