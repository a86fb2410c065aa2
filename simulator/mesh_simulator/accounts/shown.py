"""What an account shows of itself, and to whom; and whom its phone has in the address book."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

EVERYONE, CONTACTS, NOBODY = 1, 2, 7
"""Audiences, by the numbers of sessionmesh.v1.PrivacyAudience."""
AUDIENCES = {
    "last_seen": EVERYONE,
    "online": EVERYONE,
    "picture": EVERYONE,
    "about": EVERYONE,
    "status": CONTACTS,
    "groups_add": EVERYONE,
    "calls": EVERYONE,
}
"""Who sees or may do what, by default."""
ALLOWED = {name: frozenset({EVERYONE, CONTACTS, NOBODY}) for name in AUDIENCES} | {
    "online": frozenset({EVERYONE, 5}),  # or whoever may see when it was last there
    "calls": frozenset({EVERYONE, 6}),  # or people known to it
}
"""What of it can be chosen here; the phone alone could name people one by one."""


@dataclass(slots=True)
class Shown:
    """`picture_ref` is the blob. `business` is a serialised wire.BusinessProfile; None: no business."""

    about: str = ""
    picture_id: str = ""
    picture_ref: str = ""
    business: bytes | None = None
    audiences: dict[str, int] = field(default_factory=dict)
    """Where they are not the default."""
    read_receipts: bool = True
    default_disappear_seconds: int = 0
    contacts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Whole and first names, by phone number."""

    def audience(self, name: str) -> int:
        """Who sees or may do it."""
        return self.audiences.get(name, AUDIENCES[name])

    def is_shown(self, name: str, viewer: str) -> bool:
        """Whether the person with this phone number sees it."""
        audience = self.audience(name)
        return audience == EVERYONE or (audience == CONTACTS and viewer in self.contacts)

    def as_row(self) -> dict[str, Any]:
        """What is kept on disk."""
        return {
            "about": self.about,
            "picture_id": self.picture_id,
            "picture_ref": self.picture_ref,
            "business": None if self.business is None else base64.b64encode(self.business).decode(),
            "audiences": self.audiences,
            "read_receipts": self.read_receipts,
            "default_disappear_seconds": self.default_disappear_seconds,
            "contacts": {phone: list(names) for phone, names in self.contacts.items()},
        }


def shown_of_row(row: dict[str, Any]) -> Shown:
    """The inverse of `as_row`."""
    business = row["business"]
    return Shown(
        row["about"],
        row["picture_id"],
        row["picture_ref"],
        None if business is None else base64.b64decode(business),
        dict(row["audiences"]),
        row["read_receipts"],
        row["default_disappear_seconds"],
        {phone: (full, first) for phone, (full, first) in row["contacts"].items()},
    )
