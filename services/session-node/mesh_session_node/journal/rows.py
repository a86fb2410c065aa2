"""The rows that a session-node writes. Times are microseconds since 1970; enums are sessionmesh.v1 numbers.

msgspec makes these several times faster than a frozen dataclass; a few are made for every message.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method
from sessionmesh.v1 import job_pb2, message_pb2


@dataclass(frozen=True, slots=True, eq=False)
class AccountRef:
    """An account under one tenure of its shard: every row is written for one, and fenced by its epoch.

    Keep one object per account and tenure; a batch recognises it by identity.
    """

    uuid: UUID
    tenant: UUID
    shard: int
    epoch: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event. `body` is a serialised sessionmesh.v1.Event without commit_time and cursor; `id` is the one
    in it.
    """

    id: UUID
    type: str
    body: bytes


class MediaUse(msgspec.Struct, frozen=True, gc=False):
    """A message refers to a file, in this category (sessionmesh.v1.MediaCategory); a later one of the same
    message and file replaces it. Nothing is stored for a file that is deleted already. How long the file is
    kept for it counts from `since`, by default from now.
    """

    message: UUID
    media: UUID
    category: int
    since: int | None = None


class OutboundMessage(msgspec.Struct, frozen=True, gc=False):
    """A message to send, accepted: stored as QUEUED, with its outbox row and its event, under its request id.

    `request_id` "" is for what no caller asked for: it is not de-duplicated. `digest` (16 bytes) is of the
    payload. `due_at` None is now. `state` is the driver's sealed state after encrypting it, saved in the same
    commit. `labels` is a JSON object; None: it has none. `media` is the file that it refers to.
    """

    id: UUID
    request_id: str
    digest: bytes
    chat: str
    content: bytes
    event: Event
    method: int = Method.SEND_MESSAGE
    network_id: str = ""
    traceparent: str = ""
    priority: int = 0
    due_at: int | None = None
    state: bytes | None = None
    external_id: str = ""
    labels: str | None = None
    media: MediaUse | None = None


class StatusChange(msgspec.Struct, frozen=True, gc=False):
    """A message's new status; ignored, with its event, where `mesh_core.message_status` says no.

    Once it is SENT, or has ended otherwise, the message leaves the outbox. `failure_code` is the network's;
    `network_id` is for networks that choose it. `again`: it may be stored already, by whoever had the account
    before, and its event is then ignored also where a later change of the same batch is news.
    """

    message: UUID
    status: int
    time: int
    event: Event | None = None
    failure: int | None = None
    failure_code: int | None = None
    failure_detail: str | None = None
    network_id: str | None = None
    again: bool = False


class InboundMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that the network brought, or that another device of the account sent (`direction` OUTBOUND).

    It is told apart by `network_id` within its account: a repeat is a `Duplicate` and writes nothing. `event`
    None: it is of the past, of which there are none. `media` is what the driver needs to fetch its media,
    which then stays marked as to be fetched until `FetchDone`.
    """

    id: UUID
    network_id: str
    chat: str
    content: bytes
    event: Event | None
    network_time: int | None = None
    direction: int = message_pb2.DIRECTION_INBOUND
    status: int = 0
    traceparent: str = ""
    media: bytes | None = None


class Action(msgspec.Struct, frozen=True, gc=False):
    """A request id used for anything but a message. `result` is returned to a repeated request, with
    `answer`, a serialised response, where it does not lead to that; `event` is stored only the first time.
    """

    method: int
    request_id: str
    digest: bytes
    result: UUID
    event: Event | None = None
    answer: bytes | None = None


class AccountRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of the account (`mesh_core.database.requests`); `value` None: there is none any more. The last
    one of an account, kind, key and member in a batch is stored.
    """

    kind: int
    key: str
    member: str
    value: bytes | None
    time: int


class ChatChange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What becomes of a chat, beside what its messages make of it; what is None stays as it is.

    `mute_until` is microseconds since the epoch, `disappear` seconds; 0 is none. What can be set, and
    `name`, makes the chat where there is none: it
    then stands among the others as if its last message had come at `time`. `read_until`: the message with
    this id and those before it are read. `cleared`: it has no message any more, and `deleted`: nor anything
    that was set; what comes later is not meant. Of several of a chat in a batch the last that says something
    of a field counts.
    """

    chat: str
    time: int
    deleted: bool = False
    cleared: bool = False
    read_until: UUID | None = None
    archived: bool | None = None
    marked_unread: bool | None = None
    pinned: bool | None = None
    mute_until: int | None = None
    disappear: int | None = None
    name: str | None = None


class SessionSnapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The whole session row; the last one in a batch is stored. `restrictions` is a serialised
    sessionmesh.v1.Session that has only these, `settings` a sessionmesh.internal.v1.StoredSettings.
    """

    node: str
    state: int
    cause: int = 0
    detail: str = ""
    phone: str = ""
    network_user_id: str = ""
    push_name: str = ""
    paired: bool = False
    recent_failures: int = 0
    sent: int = 0
    received: int = 0
    failed: int = 0
    connects: int = 0
    settings: bytes = b""
    connect_time: int | None = None
    last_heard_time: int | None = None
    next_connect_time: int | None = None
    update_time: int
    hidden_id: str = ""
    last_inbound_time: int | None = None
    restrictions: bytes = b""


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """The end of one connection. `id` is a UUIDv7, which orders them."""

    id: UUID
    cause: int
    detail: str
    node: str
    connect_time: int | None
    disconnect_time: int


class Credential(msgspec.Struct, frozen=True, gc=False):
    """The driver's sealed state; the last one of an account in a batch is stored."""

    blob: bytes


class DriverRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the driver's state, sealed; `value` None: there is none any more. The last one of an account
    and key in a batch is stored: also where the message of its unit is a `Duplicate`.
    """

    key: str
    value: bytes | None


class ForgetDriverRows(msgspec.Struct, frozen=True, gc=False):
    """Every row of the driver's state goes, but those that are written after this."""


class ContentUpdate(msgspec.Struct, frozen=True, gc=False):
    """New content of a message: media that became READY, or with `edit_time` what its writer changed. A
    message that was emptied meanwhile stays so.
    """

    message: UUID
    content: bytes
    edit_time: int | None = None


class InPlace(msgspec.Struct, frozen=True, gc=False):
    """A message that the network brought after a change of it, which had a place made for it: the place
    becomes this message. `message` is the place's id, and stays; `edit_time` None: the change does not count.
    """

    message: UUID
    chat: str
    content: bytes
    network_time: int
    direction: int
    status: int
    edit_time: int | None = None


class FetchBegin(msgspec.Struct, frozen=True, gc=False):
    """The media of a message that is stored already are to be fetched; `blob` is what the driver needs."""

    message: UUID
    blob: bytes


class FetchDone(msgspec.Struct, frozen=True, gc=False):
    """The message's media need not be fetched any more."""

    message: UUID


class FetchRetry(msgspec.Struct, frozen=True, gc=False):
    """One more attempt to fetch the message's media failed; the next is due at `due_at`."""

    message: UUID
    due_at: int


class JobStep(msgspec.Struct, frozen=True, gc=False):
    """How far a job of the account has come, which has not ended; the last one of a job in a batch is stored.
    `detail` is JSON, `error` a serialised google.rpc.Status. It ends with a `state` above RUNNING.
    """

    job: UUID
    state: job_pb2.JobState.ValueType
    done: int
    detail: str = "{}"
    error: bytes | None = None


class ReceiptPart(msgspec.Struct, frozen=True, gc=False):
    """Members of a group who came to have a message, or a status of it; `receipts` is a serialised
    sessionmesh.internal.v1.ReceiptPart of those of whom nothing as high was stored before.
    """

    message: UUID
    part: UUID
    receipts: bytes


class PersonIdentity(msgspec.Struct, frozen=True, gc=False):
    """Names that belong to one person, as the network told; "" for what it did not. `person` is the address
    of the most lasting one, which the row is known by.
    """

    person: str
    phone: str
    user_id: str
    hidden_id: str
    username: str
    display_name: str
    time: int


Row = (
    StatusChange
    | Event
    | InboundMessage
    | Action
    | AccountRecord
    | ChatChange
    | SessionSnapshot
    | Disconnect
    | Credential
    | DriverRow
    | ForgetDriverRows
    | ContentUpdate
    | InPlace
    | FetchBegin
    | FetchDone
    | FetchRetry
    | JobStep
    | MediaUse
    | ReceiptPart
    | PersonIdentity
)
"""What `Journal.write` and `Journal.post` take."""
