"""The grammar of addresses."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh_core import addresses
from mesh_core.addresses import MAX_ADDRESS, Kind, kind_of, parse
from mesh_core.errors import InvalidField
from tests.support.address_vectors import AddressVector, address_vectors

VECTORS = address_vectors()
ACCEPTED = [vector for vector in VECTORS if vector.canonical is not None]
REFUSED = [vector for vector in VECTORS if vector.canonical is None]
ONE_OF_EACH = [
    "phone:+4915112345678",
    "user:u-1",
    "hidden:h-1",
    "group:g-1",
    "channel:c-1",
    "username:lisa",
    "status",
]
ROLES: list[tuple[Callable[[str, str], str], set[str]]] = [
    (addresses.chat, {"phone", "user", "hidden", "group", "channel", "username", "status"}),
    (addresses.person, {"phone", "user", "hidden", "username"}),
    (addresses.group, {"group"}),
    (addresses.channel, {"channel"}),
]

ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=160)
numbers = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)
names = st.text("abcz019._", min_size=3, max_size=35)
nearly = st.one_of(
    numbers,
    numbers.map("phone:".__add__),
    st.builds("{}:{}".format, st.sampled_from(["user", "hidden", "group", "channel"]), ids),
    names.map("username:".__add__),
    st.just("status"),
)
"""Addresses, but for user names that are against one rule."""
texts = st.one_of(
    nearly,
    st.text(),
    st.builds(
        lambda text, at, more: text[:at] + more + text[at:], nearly, st.integers(0, 170), st.text(max_size=2)
    ),
)
"""Addresses, texts, and addresses with something put in between."""


@pytest.mark.parametrize("vector", ACCEPTED, ids=str)
def test_an_address_has_its_canonical_form_and_its_kind(vector: AddressVector) -> None:
    canonical = parse("address", vector.input)
    assert (canonical, kind_of(canonical)) == (vector.canonical, vector.kind), vector.why


@pytest.mark.parametrize("vector", REFUSED, ids=str)
def test_what_is_no_address_is_refused_with_the_field(vector: AddressVector) -> None:
    with pytest.raises(InvalidField) as refusal:
        parse("target.address", vector.input)
    assert refusal.value.field == "target.address", vector.why


def test_the_vectors_have_every_kind_and_each_text_once() -> None:
    assert {vector.kind for vector in ACCEPTED} == set(get_args(Kind))
    assert len({vector.input for vector in VECTORS}) == len(VECTORS)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", "is required"),
        ("4915112345678", "phone:+NUMBER"),
        ("+49 151 12345678", "without spaces"),
        ("phone:+49151", "7 to 15 digits"),
        ("4915112345678@s.whatsapp.net", "phone:+NUMBER"),
        ("4915112345678@c.us", "phone:+NUMBER"),
        ("123456789012345@lid", "hidden:ID"),
        ("120363041234567890@g.us", "group:ID"),
        ("120363041234567890@newsletter", "channel:ID"),
        ("status@broadcast", "must be status"),
        ("status:1", "status alone"),
        ("Group:1", "begin with group, in lower case"),
        ("user:", "user:ID"),
        ("group:123@g.us", "group:ID"),
        ("username", "username:NAME"),
        ("username:Lisa", "lower case"),
        ("username:lisa.com", "web address"),
        ("lisa", "one of phone:+NUMBER, user:ID"),
        ("x" * (MAX_ADDRESS + 1), "at most 168 characters"),
    ],
)
def test_a_refusal_says_the_right_form(text: str, right: str) -> None:
    with pytest.raises(InvalidField, match=re.escape(right)):
        parse("address", text)


@pytest.mark.parametrize("address", ONE_OF_EACH)
@pytest.mark.parametrize(("role", "kinds"), ROLES, ids=["chat", "person", "group", "channel"])
def test_a_role_takes_its_kinds_only(role: Callable[[str, str], str], kinds: set[str], address: str) -> None:
    if kind_of(address) in kinds:
        assert role("chat", address) == address
    else:
        with pytest.raises(InvalidField) as refusal:
            role("chat", address)
        assert refusal.value.field == "chat"


def test_a_person_may_be_given_as_a_bare_phone_number() -> None:
    assert addresses.person("sender", "+4915112345678") == "phone:+4915112345678"


@given(texts)
def test_a_canonical_form_is_its_own_canonical_form(text: str) -> None:
    if (canonical := _parsed(text)) is not None:
        assert parse("address", canonical) == canonical


@given(texts)
def test_only_the_prefix_of_a_bare_phone_number_is_ever_added(text: str) -> None:
    assert _parsed(text) in (None, text, f"phone:{text}")


@given(nearly, st.integers(0, MAX_ADDRESS), st.characters(min_codepoint=128))
@example("phone:+4915112345678", 8, "\u0661")
@example("username:kate", 9, "\u212a")
def test_nothing_with_a_character_beyond_ascii_is_an_address(text: str, at: int, character: str) -> None:
    assert _parsed(text[:at] + character + text[at:]) is None


@given(texts)
def test_an_address_is_safe_in_a_header_and_in_json(text: str) -> None:
    """No control character, space, quotation mark or backslash: it is written as it is, anywhere."""
    if (canonical := _parsed(text)) is not None:
        assert re.fullmatch(r"[A-Za-z0-9.+_:-]+", canonical)
        assert json.dumps(canonical) == f'"{canonical}"'


@given(texts)
def test_an_address_is_no_longer_than_the_longest(text: str) -> None:
    if (canonical := _parsed(text)) is not None:
        assert len(canonical) <= MAX_ADDRESS


def test_the_longest_address_is_an_id_of_a_channel() -> None:
    assert len(parse("address", f"channel:{'a' * addresses.MAX_ID}")) == MAX_ADDRESS


def _parsed(text: str) -> str | None:
    try:
        return parse("address", text)
    except InvalidField:
        return None
