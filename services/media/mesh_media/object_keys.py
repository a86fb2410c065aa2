"""Keys of objects. A key says which store has the object: `NAME:path`, or only the path in `main`."""

from __future__ import annotations

from mesh_core.settings import MAIN_STORE


def store_of(key: str) -> str:
    """The name of the store that a key's object is in."""
    name, separator, _ = key.partition(":")
    return name if separator else MAIN_STORE


def path_of(key: str) -> str:
    """A key without its store."""
    return key.rpartition(":")[2]


def key_in(store: str, path: str) -> str:
    """The key of an object in a store."""
    return path if store == MAIN_STORE else f"{store}:{path}"
