"""Addresses of people and chats: their grammar, in one place.

    phone:+4915112345678   a phone number in E.164; a bare +4915112345678 is the same on input
    user:ID                a person, by the network's user id as this API reported it
    hidden:ID              a person whose number the network hides, by the id that it gives instead
    group:ID               a group
    channel:ID             a channel
    username:NAME          a person, by the name that WhatsApp lets people choose
    status                 the status posts of the account

An address is ASCII and has one spelling, so that clients of every language can compare and store it as it is.
What is spelt otherwise is refused rather than folded, as languages fold differently (letter case, full-width
digits); the bare phone number is the one exception. One person may have several addresses, of several kinds.
`docs/addresses.json` has examples of each rule, which programs in other languages are checked against, too.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from mesh_core.errors import InvalidField

Kind = Literal["phone", "user", "hidden", "group", "channel", "username", "status"]

MAX_ID: Final = 160
"""Characters. The longest that a network gives today are some 135, ids of people towards one business."""

MAX_ADDRESS: Final = len("channel:") + MAX_ID
"""Characters, which are bytes too, of the longest address."""


def parse(field: str, text: str) -> str:
    """The canonical form of any address; raises `InvalidField` with `field` and the right form.

    A user name in upper case is refused: WhatsApp ignores case, so any other spelling than in lower case
    would be a second address of the same name.
    """
    if _phone(text):
        return text if text[0] == "p" else "phone:" + text
    if _by_id(text) or text == "status":
        return text
    problem = _problem_of_name(text[9:]) if text.startswith("username:") else _problem(text)
    if problem:
        raise InvalidField(field, problem)
    return text


chat = parse
"""What a message can be sent to: a person, a group, a channel or the status. Whatever has an address."""


def person(field: str, text: str) -> str:
    """The canonical address of a person."""
    canonical = parse(field, text)
    if kind_of(canonical) not in _PERSONS:
        raise InvalidField(field, "must be a person: phone:+NUMBER, user:ID, hidden:ID or username:NAME")
    return canonical


def group(field: str, text: str) -> str:
    """The canonical address of a group."""
    canonical = parse(field, text)
    if kind_of(canonical) != "group":
        raise InvalidField(field, "must be a group: group:ID")
    return canonical


def channel(field: str, text: str) -> str:
    """The canonical address of a channel."""
    canonical = parse(field, text)
    if kind_of(canonical) != "channel":
        raise InvalidField(field, "must be a channel: channel:ID")
    return canonical


def kind_of(canonical: str) -> Kind:
    """What an address that was parsed before is the address of."""
    return _KINDS[canonical.partition(":")[0]]


def _problem(text: str) -> str:
    """Why a text is no address; it is none, and does not begin with `username:`."""
    if not text:
        return "is required"
    if len(text) > MAX_ADDRESS:
        return f"must be at most {MAX_ADDRESS} characters long"
    if not _plain(text):
        return "must be ASCII, without spaces and control characters"
    prefix = text.partition(":")[0]
    if prefix in ("user", "hidden", "group", "channel"):
        return f"must be {prefix}:ID, whose ID is 1 to {MAX_ID} of A-Z a-z 0-9 . _ -"
    if prefix == "phone" or text[0] == "+":
        return "must be a phone number in E.164, 7 to 15 digits, such as phone:+4915112345678"
    if prefix == "status":
        return "must be status alone, without an id"
    if not prefix.islower() and prefix.lower() in _KINDS:
        return f"must begin with {prefix.lower()}, in lower case"
    if text.isdigit():
        return "must be phone:+NUMBER, with + and country code, such as phone:+4915112345678"
    if text == "status@broadcast":
        return "must be status, not the network's own form"
    if right := _NETWORK_FORMS.get(text.rpartition("@")[2]):
        return f"must be {right}, not the network's own form"
    return f"must be one of {_FORMS}"


def _problem_of_name(name: str) -> str:
    """Why WhatsApp lets nobody have this user name; empty when somebody may.

    Words that it reserves are not among the rules: it has accounts of its own under them.
    """
    if not 3 <= len(name) <= 35:
        return "must be username:NAME, whose NAME has 3 to 35 characters"
    if not _name(name):
        return "must be username:NAME, whose NAME is of a-z 0-9 . _ (lower case)"
    if not _letter(name):
        return "must be username:NAME, whose NAME has a letter"
    if name[0] == "." or name[-1] == "." or ".." in name:
        return "must be username:NAME, whose NAME neither begins nor ends with a dot, nor has two in a row"
    if name.startswith("www.") or name.endswith(_DOMAINS):
        return "must be username:NAME, whose NAME is not like a web address or a file's name"
    return ""


_phone = re.compile(r"(?:phone:)?\+[1-9][0-9]{6,14}").fullmatch
_by_id = re.compile(rf"(?:user|hidden|group|channel):[A-Za-z0-9._-]{{1,{MAX_ID}}}").fullmatch
_name = re.compile(r"[a-z0-9._]+").fullmatch
_letter = re.compile(r"[a-z]").search
_plain = re.compile(r"[!-~]+").fullmatch

_KINDS: Final[dict[str, Kind]] = {
    "phone": "phone",
    "user": "user",
    "hidden": "hidden",
    "group": "group",
    "channel": "channel",
    "username": "username",
    "status": "status",
}
_PERSONS: Final = frozenset[Kind]({"phone", "user", "hidden", "username"})
_FORMS: Final = "phone:+NUMBER, user:ID, hidden:ID, group:ID, channel:ID, username:NAME, status"
_NETWORK_FORMS: Final = {
    "s.whatsapp.net": "phone:+NUMBER",
    "c.us": "phone:+NUMBER",
    "lid": "hidden:ID",
    "g.us": "group:ID",
    "newsletter": "channel:ID",
}
# What WhatsApp's own program refuses. Its documentation for businesses has more (`.in`, `.us`); lists grow:
# a name too many is one that the network does not find, a name too few is somebody who cannot be written to.
_DOMAINS: Final = (
    ".com",
    ".org",
    ".net",
    ".int",
    ".edu",
    ".gov",
    ".mil",
    ".arpa",
    ".html",
    ".htm",
    ".txt",
    ".xml",
)
