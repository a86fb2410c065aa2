"""Names of files that came from elsewhere, made fit to be stored and shown."""

from __future__ import annotations

import unicodedata

MAX_FILE_NAME = 255
"""Characters."""


def fitting_name(name: str) -> str:
    """A file's name without what a path, or a terminal's command, could be made of; a long one is cut in the
    middle, so that it ends as it did. What nothing is left of is empty.
    """
    plain = "".join(_fitting(letter) for letter in name).strip()
    if not plain.strip("."):
        return "_" * len(plain)
    if len(plain) > MAX_FILE_NAME:
        stem, dot, suffix = plain.rpartition(".")
        ending = dot + suffix if stem and len(suffix) <= _MAX_SUFFIX else ""
        plain = plain[: MAX_FILE_NAME - len(ending) - 1] + "…" + ending
    return plain


def _fitting(letter: str) -> str:
    if letter in "/\\":
        return "_"
    # Controls, what Unicode lets fonts ignore or turns text around, and halves of surrogate pairs
    return "" if unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING else letter


_MAX_SUFFIX = 16
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
