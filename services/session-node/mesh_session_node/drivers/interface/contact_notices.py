"""What a network tells of people: what they show, and what the account's phone did with its address book."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_session_node.drivers.interface.content import Identity


@dataclass(frozen=True, slots=True)
class PersonChanged:
    """Something of a person is so now; what is None is as before. `time` is in microseconds since the epoch.

    `saved`: they are in the account's address book, by `full_name` and `first_name`; False: not any more.
    `picture_id` is "" for no picture.
    """

    person: str
    time: int
    identity: Identity | None = None
    saved: bool | None = None
    full_name: str = ""
    first_name: str = ""
    push_name: str | None = None
    about: str | None = None
    picture_id: str | None = None
    blocked: bool | None = None
