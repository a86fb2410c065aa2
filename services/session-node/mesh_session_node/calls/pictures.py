"""Pictures that an account, a group or a channel is to show, which callers name by media of theirs."""

from __future__ import annotations

from mesh_core.errors import FailedPrecondition, InvalidField, NotFound
from mesh_core.ids import Prefix, decode
from mesh_core.rpc.auth import current_identity
from mesh_session_node.account.session import Session
from mesh_session_node.store.pictures import Pictures
from sessionmesh.v1 import content_pb2

JPEG = "image/jpeg"


async def jpeg_of(pictures: Pictures, session: Session, field: str, media_id: str, most: int) -> bytes:
    """The bytes, `most` at most, of a picture that a caller names in a field of the request, none for "".

    Raises `NotFound` for media that are not there, or that the caller's key does not see,
    `FailedPrecondition` MEDIA_NOT_READY, `InvalidField` for what is no id, no JPEG or too large, and what the
    media service answers.
    """
    if not media_id:
        return b""
    decode(Prefix.MEDIA, media_id, field)
    media, data = await pictures.read(session.context.ref.tenant, media_id, most)
    if not current_identity().sees_account(media.account_id):
        raise NotFound("media", media_id)
    if media.state != content_pb2.MEDIA_STATE_READY:
        raise FailedPrecondition(f"{field}: media {media_id} is not READY", "MEDIA_NOT_READY")
    if media.mime_type != JPEG:
        raise InvalidField(field, f"must be a JPEG, not {media.mime_type or 'of an unknown type'}")
    if not data:
        raise InvalidField(field, f"must be of at most {most:,} bytes")
    return data
