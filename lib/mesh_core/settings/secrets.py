"""Which settings are secret, so that nothing shows them: no error, no log, no `repr` of a section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

HIDDEN = "***"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A section that may have secrets: its `repr` has none."""

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"


def is_secret(key: str) -> bool:
    """Whether a key's value must not be shown; what is named `key` alone is the path of a file."""
    return key != "tls_key" and _SECRET.search(key) is not None


def without_password(text: str) -> str:
    """A URL without its passwords; any other text as it is."""
    return _ASKED.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1:{HIDDEN}@", text))


def secrets_of(settings: Any) -> Iterator[str]:
    """Every secret text in settings: values of secret keys, and passwords in URLs."""
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            yield from secrets_of(value)
        elif isinstance(value, Mapping):
            for each in value.values():
                if isinstance(each, msgspec.Struct):
                    yield from secrets_of(each)
        elif is_secret(name):
            yield from filter(None, [value] if isinstance(value, str) else value)
        elif isinstance(value, str) and "://" in value:
            for password in (urlsplit(value).password or "", *(found[2] for found in _ASKED.finditer(value))):
                yield from {password, unquote(password)} - {""}


def _shown(name: str, value: object) -> str:
    if is_secret(name) and value:
        return HIDDEN
    return repr(without_password(value) if isinstance(value, str) else value)


_SECRET = re.compile(r"_keys?$|(^|_)(password|secret|token)$")
# Up to the last @: drivers take passwords with an @ in them, too, and a / may be in one that none takes.
_PASSWORD = re.compile(r"(://[^:@/]*):\S*@")
_ASKED = re.compile(r"([?&]\w*password=)([^&#\s]+)")
