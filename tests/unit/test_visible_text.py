"""Names, ids and labels show all that is in them, and errors repeat little of what a caller wrote."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from mesh_core import errors, validation
from mesh_core.errors import MAX_MESSAGE, MAX_NAME, InvalidField
from mesh_core.rpc.server.status import trailing_metadata

VISIBLE_FORMATS = {*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
"""Of Unicode's format characters those that have a shape: signs of numbers and of verses."""
HIEROGLYPHS = range(0x13430, 0x13456)
JOINERS = {0x200C, 0x200D}
UNPRINTED = {"Cc", "Cf", "Zl", "Zp"}


def is_refused(text: str) -> bool:
    try:
        return validation.visible_text("name", text) != text
    except InvalidField:
        return True


def test_every_control_and_format_character_and_separator_is_refused() -> None:
    allowed = {
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in UNPRINTED and not is_refused(f"é{chr(code)}é")
    }
    assert allowed - VISIBLE_FORMATS - {*HIEROGLYPHS} == JOINERS


@pytest.mark.parametrize(
    "text",
    [
        "a\u200db",
        "a\ufe0f",
        "\u200dé",
        "é\u200d",
        "\ufe0f❤",
        "\u3164",
        "a\u2800b",
        "x\u034f",
        "\u115f",
        "\U000e0041",
        "\n",
    ],
)
def test_what_is_not_seen_is_refused(text: str) -> None:
    assert is_refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Acme & Sons",
        "Zoë",
        "日本語",
        "مرحبا",
        "\u0645\u06cc\u200c\u062e\u0648",
        "क्\u200dष",
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "❤\ufe0f\u200d🔥",
        "👍🏽",
        "e\u0301",
        "a b",
    ],
)
def test_what_people_write_is_taken(text: str) -> None:
    assert not is_refused(text)


@pytest.mark.parametrize("labels", [{"a\u202e": "b"}, {"a": "b\u202e"}, {"\u200b": ""}, {"a\t": ""}])
def test_labels_have_nothing_invisible_either(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidField, match="invisible"):
        validation.labels("labels", labels)


HOSTILE = "\x1b[31m\u202e\n" + "€" * 20_000
ERRORS = [
    errors.NotFound("account", HOSTILE),
    errors.InvalidField(HOSTILE, HOSTILE),
    errors.InvalidField("labels", f"{HOSTILE!r} is not one of a, b"),
    errors.AlreadyExists(HOSTILE, "RESOURCE_EXISTS", resource="account", name=HOSTILE),
    errors.PermissionDenied(HOSTILE, "SCOPE_MISSING"),
    errors.ResourceExhausted(HOSTILE, "RATE_LIMITED", quota=HOSTILE),
    errors.FailedPrecondition(HOSTILE, "RESOURCE_DELETED"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_repeat_little_of_a_caller_and_nothing_that_a_terminal_obeys(error: errors.MeshError) -> None:
    assert len(error.message) <= MAX_MESSAGE
    assert error.message.isprintable()
    [(_, details)] = trailing_metadata(error)
    assert len(details) * 4 / 3 + len(error.message.encode()) * 3 < 16 * 1024, (
        "the most that headers may have"
    )
    assert b"\x1b[" not in details
    for part in ("name", "field", "quota"):
        assert len(getattr(error, part, None) or "") <= MAX_NAME


def test_what_is_short_and_visible_is_repeated_as_it_is() -> None:
    assert errors.NotFound("account", "acc_é").message == "account acc_é does not exist"
    assert errors.shown("a\tb\u202e") == "a\\tb\\u202e"
