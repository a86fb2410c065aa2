"""What a request to send must be like; raises `InvalidField`, or `Unimplemented`, with the field's path."""

from __future__ import annotations

from time import time

from mesh_core import addresses, validation
from mesh_core.errors import InvalidField
from mesh_session_node.calls.messages.content_validation import check_content, check_text
from mesh_session_node.drivers.interface.content import STATUS
from mesh_session_node.outbound.references import check_ref
from sessionmesh.v1 import message_pb2

MAX_AHEAD = 30 * 86_400
"""Seconds that a message may be scheduled ahead."""
MAX_REQUEST = 160 * 1024
"""Bytes of a serialised request, with all that it has beside its content."""
MAX_LABELS = 16
MAX_MENTIONS = 256
MAX_AUDIENCE = 1000
POSTED = frozenset({"text", "image", "video", "voice_note"})
"""Kinds of content that can be status posts."""
CHANNEL_POSTED = frozenset(
    {"text", "image", "video", "audio", "voice_note", "document", "sticker", "reaction"}
)
"""Kinds of content that can be posted in channels; a reaction is one to a post."""
MAX_FORWARD_SCORE = 127
MAX_DISAPPEAR_AFTER = 90 * 86_400
"""Seconds after which the recipient's copy may disappear at most."""


def check_send(request: message_pb2.SendMessageRequest) -> None:
    """Everything that can be said of a request without looking anything up. Its addresses become canonical,
    and what is not a caller's to say, says what holds without it, or is unknown here is cleared.
    """
    request.DiscardUnknownFields()
    request_id = request.request_id
    if not 0 < len(request_id) <= validation.MAX_REQUEST_ID or "\0" in request_id:
        validation.request_id(request_id)
    recipient = request.recipient
    canonical = addresses.chat("recipient", recipient)
    if canonical[0] in "cs":
        _check_special(canonical, request)
    if canonical is not recipient:
        request.recipient = canonical
    content = request.content
    if content.HasField("text"):
        check_text(content.text, posted=canonical == STATUS)
    else:
        check_content(content)
    if request.HasField("album"):
        request.ClearField("album")
    if request.HasField("options"):
        _check_options(request.options, posted=canonical == STATUS)
        if not request.options.ByteSize():
            request.ClearField("options")
    if request.external_id:
        validation.visible_text("external_id", request.external_id)
    if request.labels:
        validation.labels("labels", request.labels, MAX_LABELS)
    if request.HasField("schedule_time") or request.HasField("expire_time"):
        _check_times(request)
    if request.ByteSize() > MAX_REQUEST:
        raise InvalidField("content", f"and all beside it must be at most {MAX_REQUEST:,} bytes")
    if not 0 <= request.priority <= message_pb2.PRIORITY_LOW:
        raise InvalidField("priority", "must be one of HIGH, NORMAL, LOW")
    if request.priority == message_pb2.PRIORITY_NORMAL:
        request.ClearField("priority")
    if not 0 <= request.wait_for <= message_pb2.WAIT_FOR_SENT:
        raise InvalidField("wait_for", "must be one of QUEUED, SENT")


def _check_options(options: message_pb2.MessageOptions, *, posted: bool) -> None:
    if options.HasField("reply_to"):
        check_ref("options.reply_to", options.reply_to)
    if len(options.mentions) > MAX_MENTIONS:
        raise InvalidField("options.mentions", f"must have at most {MAX_MENTIONS} entries")
    for at, mention in enumerate(options.mentions):
        options.mentions[at] = addresses.person(f"options.mentions[{at}]", mention)
    after = options.disappear_after
    if not 0 <= after.seconds <= MAX_DISAPPEAR_AFTER or after.nanos:
        raise InvalidField("options.disappear_after", "must be whole seconds, up to 90 days")
    if after.seconds == 0:
        options.ClearField("disappear_after")
    if not 0 <= options.forward_score <= MAX_FORWARD_SCORE:
        raise InvalidField("options.forward_score", f"must be between 0 and {MAX_FORWARD_SCORE}")
    if options.HasField("audience"):
        if not posted:
            raise InvalidField("options.audience", "is for status posts only")
        _check_audience(options.audience)


def _check_times(request: message_pb2.SendMessageRequest) -> None:
    now = time()
    if request.HasField("schedule_time"):
        when = validation.timestamp("schedule_time", request.schedule_time).timestamp()
        if when > now + MAX_AHEAD:
            raise InvalidField("schedule_time", "must be at most 30 days ahead")
    if request.HasField("expire_time"):
        validation.timestamp("expire_time", request.expire_time)
        end, begin = request.expire_time, request.schedule_time
        if request.HasField("schedule_time") and (end.seconds, end.nanos) <= (begin.seconds, begin.nanos):
            raise InvalidField("expire_time", "must be after schedule_time")


def _check_special(recipient: str, request: message_pb2.SendMessageRequest) -> None:
    """A post: of the status, or in a channel."""
    in_channel = recipient != STATUS
    kind = request.content.WhichOneof("kind")
    if kind is not None and kind not in (CHANNEL_POSTED if in_channel else POSTED):
        raise InvalidField(
            f"content.{kind}", f"cannot be {'posted in a channel' if in_channel else 'a status post'}"
        )
    if not in_channel:
        return
    if getattr(getattr(request.content, kind or "", None), "view_once", False):
        raise InvalidField(f"content.{kind}.view_once", "must not be set in a channel")
    options = request.options
    for name, given in (
        ("reply_to", options.HasField("reply_to")),
        ("mentions", len(options.mentions) > 0),
        ("disappear_after", options.disappear_after.seconds != 0),
    ):
        if given:
            raise InvalidField(f"options.{name}", "must be empty in a channel")


def _check_audience(audience: message_pb2.StatusAudience) -> None:
    named = audience.kind in (
        message_pb2.STATUS_AUDIENCE_KIND_CONTACTS_EXCEPT,
        message_pb2.STATUS_AUDIENCE_KIND_ONLY,
    )
    if audience.kind not in message_pb2.StatusAudienceKind.values():
        raise InvalidField("options.audience.kind", "must be one of CONTACTS, CONTACTS_EXCEPT, ONLY")
    if len(audience.addresses) > MAX_AUDIENCE or bool(audience.addresses) is not named:
        raise InvalidField(
            "options.audience.addresses",
            f"must have 1 to {MAX_AUDIENCE:,} entries with CONTACTS_EXCEPT and ONLY, else none",
        )
    for at, address in enumerate(audience.addresses):
        audience.addresses[at] = addresses.person(f"options.audience.addresses[{at}]", address)
