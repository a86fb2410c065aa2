"""Request ids: a request that is sent again acts once and gets the first result (AIP-155); and the numbers of
methods and of kinds of records, as they are stored.
"""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum
from hashlib import blake2b
from typing import cast

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy
from google.protobuf.message import Message

from mesh_core.database.pool import AnyConnection
from mesh_core.errors import AlreadyExists


class Method(IntEnum):
    """The methods that take a request id, as stored. Append only."""

    SEND_MESSAGE = 1
    EDIT_MESSAGE = 2
    REVOKE_MESSAGE = 3
    REACT_TO_MESSAGE = 4
    FORWARD_MESSAGE = 5
    UPDATE_LIVE_LOCATION = 6
    SEND_ALBUM_PART = 7
    LOGOUT = 22
    ANSWER_CALL = 23
    CREATE_ACCOUNT = 40
    CREATE_TENANT = 60
    CREATE_API_KEY = 61
    ROTATE_API_KEY = 62
    ERASE_PERSON = 63
    DRAIN_NODE = 80
    UPLOAD_MEDIA = 100
    FETCH_MEDIA = 101
    PRUNE_MEDIA = 102
    MIGRATE_STORAGE = 103
    SCAN_STORAGE = 104
    CREATE_ENDPOINT = 120
    ROTATE_SECRET = 121
    REPLAY_EVENTS = 122
    REDELIVER = 123
    CREATE_SUBSCRIPTION = 124
    CREATE_GROUP = 130
    CHANGE_GROUP_MEMBERS = 131
    RESET_GROUP_INVITE = 132
    JOIN_GROUP = 133
    ANSWER_JOIN_REQUESTS = 134
    CREATE_COMMUNITY = 150
    CREATE_CHANNEL = 160
    CLEAR_CHAT = 170
    DELETE_CHAT = 171
    MARK_CHAT_READ = 172
    CREATE_LABEL = 173
    SYNC_HISTORY = 174


class RecordKind(IntEnum):
    """What a record is, as stored. Append only."""

    POLL_VOTE = 1
    """What somebody chose in a poll. `key`: the poll's message, as 32 hexadecimal digits; `member`: the
    voter's address; `value`: a serialised sessionmesh.v1.PollVoteContent with `answers` alone; `time`:
    when they did.
    """
    GROUP = 10
    """A group that the account is in. `key`: its address; `value`: a serialised
    sessionmesh.internal.v1.GroupRecord; `time`: of its last change.
    """
    GROUP_MEMBER = 11
    """Somebody in a group or community of the account. `key`: its address; `member`: theirs; `value`: a
    serialised sessionmesh.v1.GroupMember.
    """
    GROUP_LEFT = 12
    """A group or community that the account was in. As GROUP."""
    GROUP_JOIN_REQUEST = 13
    """Somebody who asks to join a group, as the network told. `key`: its address; `member`: theirs; `value`:
    a serialised sessionmesh.v1.JoinRequest.
    """
    GROUPS_LISTED = 14
    """The network was asked for all groups of the account. `key`: `listed`."""
    COMMUNITY = 15
    """A community that the account is in. As GROUP."""
    COMMUNITY_GROUP = 16
    """A group of a community, as the network told. `key`: the community's address; `member`: the group's;
    `value`: a serialised sessionmesh.v1.CommunityGroup, empty once it was unlinked.
    """
    CHANNEL = 20
    """A channel that the account follows or runs. `key`: its address; `value`: a serialised
    sessionmesh.v1.Channel; `time`: when the network told it.
    """
    CHANNELS_READ = 21
    """When the account's channels were last listed by the network: `time`. `key`: `all`; `value`: empty."""
    CHANNEL_BEGUN = 22
    """The network may have been asked to make a channel, and what it answered is not stored. `key`: the
    request id; `value`: empty; `time`: when it was asked first.
    """
    CONTACT = 40
    """What the account knows of somebody. `key`: their address; `value`: a serialised sessionmesh.v1.Contact
    without `person` and `etag`; `time`: when it last changed.
    """
    OWN_PICTURE = 41
    """The account's own picture, as it was set here; `key`: `own`; `value`: a serialised
    sessionmesh.v1.ProfilePicture.
    """
    CONTACT_PICTURE = 42
    """A picture of somebody that the account was given. `key`: their address; `member`: `image` or `preview`;
    `value`: the media's id, 16 bytes; `time`: when it was given.
    """
    LABEL = 30
    """A label of the account. `key`: its id; `value`: a serialised sessionmesh.v1.Label with `name` and
    `color` alone; `time`: when it changed last.
    """
    CHAT_LABEL = 31
    """A chat has a label. `key`: the chat's address; `member`: the label's id; no value."""
    CALL = 50
    """A call to the account. `key`: the network's id of it; `member`: the caller's address; `value`: a
    serialised sessionmesh.v1.CallEvent, as it was told last; `time`: when it came.
    """
    RISK = 55
    """How the network may judge the account. `key`: `week`; `member`: empty; `value`: a serialised
    sessionmesh.internal.v1.StoredRisk; `time`: when it was counted.
    """
    RESTORED = 60
    """The account was paused since its database was restored from a backup, and nobody has released it yet.
    `key`: `restored`; `value`: empty; `time`: when it was restored.
    """


RETENTION = timedelta(hours=24)
"""How long a request id is remembered."""
OPERATOR_SCOPE = UUID(bytes(16))
"""The scope of request ids of methods that belong to no tenant."""


def payload_digest(payload: bytes) -> bytes:
    """The 16 bytes that are kept of a payload, to tell a repeated request from another one with its id."""
    return blake2b(payload, digest_size=16).digest()


def request_digest(request: Message, content: bytes = b"") -> bytes:
    """The digest of a request without its `request_id` field, and of `content` that is not in the message."""
    payload = type(request)()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    return payload_digest(payload.SerializeToString(deterministic=True) + content)


async def claim_request(
    connection: AnyConnection | PoolConnectionProxy,
    scope: UUID,
    method: int,
    request_id: str,
    digest: bytes,
    result: UUID,
) -> UUID | None:
    """Claims a request id in the caller's transaction. Returns None for a new request, which the caller
    carries out, and the first request's `result` for a repeated one, which is answered with it.

    `scope` is the account, or the tenant for a method that has no account. `result` is the id of what the
    caller is about to make. Waits while another transaction that claimed the same request id is open. Raises
    `AlreadyExists` REQUEST_ID_REUSED when the id was used with another payload.
    """
    claimed = await connection.fetchval(_CLAIM, scope, method, request_id, digest, result)
    if claimed is not None:
        return None
    first = await connection.fetchrow(_FIRST, scope, method, request_id)
    if first is None:  # `forget_requests` deleted it between the two statements
        return await claim_request(connection, scope, method, request_id, digest, result)
    if first["digest"] != digest:
        raise AlreadyExists("the request_id was used before with another payload", "REQUEST_ID_REUSED")
    return cast(UUID, first["result"])


async def forget_requests(connection: AnyConnection) -> int:
    """Deletes up to 5,000 request ids older than `RETENTION`; returns how many, 0 when none is left."""
    return int((await connection.execute(_FORGET, RETENTION)).split()[-1])


_CLAIM = """INSERT INTO request (scope, method, request_id, digest, result) VALUES ($1, $2, $3, $4, $5)
  ON CONFLICT DO NOTHING RETURNING result"""
_FIRST = "SELECT digest, result FROM request WHERE scope = $1 AND method = $2 AND request_id = $3"
_FORGET = """DELETE FROM request WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM request WHERE created_at < now() - $1::interval LIMIT 5000))"""
