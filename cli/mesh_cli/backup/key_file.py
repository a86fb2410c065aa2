"""The key file: what opens backups, and the secrets of the mesh that its data are sealed with. It is never
where the backups are.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pyrage

from mesh_cli.backup import Refused
from mesh_cli.up.state import Secrets


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """`recipient` is public and only encrypts; `identity` opens. `secrets` are of a mesh of `mesh up`."""

    recipient: str
    identity: str
    secrets: Secrets | None


def make_key_file(place: Path, secrets: Secrets | None) -> KeyFile:
    """Makes a new key. Raises `Refused` for a file that exists: it may be the only one that opens backups."""
    identity = pyrage.x25519.Identity.generate()
    made = KeyFile(recipient=str(identity.to_public()), identity=str(identity), secrets=secrets)
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused(f"{place} exists already: choose another name, its key may open backups") from None
    except OSError as error:
        raise Refused(f"{place} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
        file.flush()
        os.fsync(descriptor)
    return made


def read_key_file(place: Path) -> KeyFile:
    """Raises `Refused` for what is no key file."""
    try:
        found = msgspec.json.decode(place.read_bytes(), type=KeyFile)
        identity = pyrage.x25519.Identity.from_str(found.identity)
    except OSError as error:
        raise Refused(f"{place} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, pyrage.IdentityError):
        raise Refused(f"{place} is not a key file of `mesh backup key`, or is damaged") from None
    if str(identity.to_public()) != found.recipient:
        raise Refused(f"{place} is damaged: its two keys do not belong together")
    return found


def check_recipient(recipient: str) -> None:
    """Raises `Refused`."""
    try:
        pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise Refused(
            "MESH_BACKUP_RECIPIENT must be the recipient (age1...) that `mesh backup key FILE` prints"
        ) from None
