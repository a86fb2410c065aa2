"""A message from the network, made fit to be stored and shown."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256

from mesh_core import addresses
from mesh_core.errors import InvalidField
from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference
from mesh_session_node.inbound.bounds import (
    MAX_BLOB,
    MAX_CONTENT,
    MAX_NAME,
    changed,
    fit,
    fit_address,
    fit_id,
    fit_phone,
    fit_text,
    fit_time,
    fit_user,
)
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2

MAX_MENTIONS = 256
MAX_FORWARD_SCORE = 127
MAX_EXPIRE_SECONDS = 10 * 365 * 86_400


def fit_incoming(came: Incoming) -> Incoming:
    """The message with nothing in it that cannot be stored or shown; its contents are changed in place."""
    named, content = _named(came), fit_content(came.content)
    return replace(
        named,
        chat=fit_address(came.chat),
        sender=fit_address(came.sender),
        push_name=fit_text(came.push_name, MAX_NAME),
        content=content,
        blob=_fit_blob(came.blob, content),
        time=fit_time(came.time, time.time_ns() // 1000),
        identity=fit_identity(came.identity),
        reply_to=_fit_reference(came.reply_to),
        target=_fit_reference(came.target),
        mentions=_fit_mentions(came),
        forward_score=_within(came.forward_score, MAX_FORWARD_SCORE),
        expire_seconds=_within(came.expire_seconds, MAX_EXPIRE_SECONDS),
        album=fit_id(came.album),
        edited=None if came.edited is None else fit_content(came.edited),
    )


def placeholder(came: Incoming) -> Incoming:
    """Stands for a message that cannot be read or stored: only who wrote it, where and when, and of what kind
    it was.
    """
    changed("message")
    kind = "edit" if came.edited is not None else came.content.WhichOneof("kind") or ""
    content = content_pb2.Content(unknown=content_pb2.UnknownContent(kind=kind))
    return replace(
        _named(came),
        chat=fit_address(came.chat),
        sender=fit_address(came.sender),
        push_name="",
        content=content,
        time=fit_time(came.time, time.time_ns() // 1000),
        identity=None,
        reply_to=None,
        target=None,
        mentions=(),
        forward_score=0,
        expire_seconds=0,
        album="",
        blob=None,
        edited=None,
    )


def fit_content(content: content_pb2.Content) -> content_pb2.Content:
    """The content, changed in place where it must be. One that is too large is unknown."""
    fit(content)
    if content.ByteSize() <= MAX_CONTENT:
        return content
    changed("size")
    kind = content.WhichOneof("kind") or ""
    return content_pb2.Content(unknown=content_pb2.UnknownContent(kind=kind))


def _fit_blob(blob: bytes | None, content: content_pb2.Content) -> bytes | None:
    """What fetches the content's file. One that is too large is left out, and the file has failed."""
    if blob is None or len(blob) <= MAX_BLOB:
        return blob
    changed("size")
    if (reference := media_of(content)) is not None:
        reference.state = content_pb2.MEDIA_STATE_FAILED
    return None


def fit_identity(identity: Identity | None) -> Identity | None:
    """Who somebody is, without what has no valid form."""
    if identity is None:
        return None
    return Identity(
        identity.phone and fit_phone(identity.phone),
        identity.user_id and fit_user("user", identity.user_id),
        identity.hidden_id and fit_user("hidden", identity.hidden_id),
        identity.username and fit_user("username", identity.username),
    )


def _named(came: Incoming) -> Incoming:
    """With an id that it can be stored under; one without is known again by what it says."""
    network_id = fit_id(came.network_id)
    if not network_id:
        changed("id")
        said = came.content.SerializeToString(deterministic=True)
        about = f"{came.chat}\n{came.sender}\n{came.time}\n".encode(errors="surrogatepass")
        network_id = f"unnamed-{sha256(about + said).hexdigest()[:32]}"
    if network_id == came.network_id:
        return came
    return replace(
        came,
        network_id=network_id,
        offered_as=came.network_id if came.offered_as is None else came.offered_as,
    )


def _fit_reference(reference: Reference | None) -> Reference | None:
    if reference is None:
        return None
    return Reference(
        fit_id(reference.network_id),
        reference.chat and fit_address(reference.chat),
        reference.sender and fit_address(reference.sender),
        None if reference.content is None else fit_content(reference.content),
    )


def _fit_mentions(came: Incoming) -> list[str]:
    mentions = []
    for address in came.mentions[:MAX_MENTIONS]:
        try:
            mentions.append(addresses.parse("", address))
        except InvalidField:
            changed("address")
    if len(came.mentions) > MAX_MENTIONS:
        changed("list")
    return mentions


def _within(value: int, most: int) -> int:
    if 0 <= value <= most:
        return value
    changed("number")
    return min(max(value, 0), most)
