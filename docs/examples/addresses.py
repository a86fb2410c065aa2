"""An address as the mesh writes it; docs/addresses.md has the rules. Needs the standard library only."""

import re

_PHONE = re.compile(r"(?:phone:)?(\+[1-9][0-9]{6,14})")
_BY_ID = re.compile(r"(?:user|hidden|group|channel):[A-Za-z0-9._-]{1,160}")
_NAME = re.compile(r"username:([a-z0-9._]{3,35})")
_LETTER = re.compile(r"[a-z]")
# Where a name has one of these, it is none.
_NO_NAME = re.compile(r"\A\.|\Awww\.|\.\.|\.(?:com|org|net|int|edu|gov|mil|arpa|html?|txt|xml)?\Z")


def parse_address(text: str) -> str:
    """The canonical form; ValueError if `text` is no address."""
    if phone := _PHONE.fullmatch(text):
        return f"phone:{phone[1]}"
    name = _NAME.fullmatch(text)
    if _BY_ID.fullmatch(text) or text == "status" or (name and _may_be_a_name(name[1])):
        return text
    raise ValueError(f"{text!r} is no address")


def _may_be_a_name(name: str) -> bool:
    return bool(_LETTER.search(name)) and not _NO_NAME.search(name)
