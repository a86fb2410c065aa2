"""What a message to send must be like. All raise `InvalidField` with the field's path."""

from __future__ import annotations

import re
from time import time

from mesh_core import validation
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix, decode
from mesh_session_node.store.media import MEDIA_KINDS
from sessionmesh.v1 import content_pb2, message_pb2
from sessionmesh.v1.common_pb2 import Recipient

MAX_TEXT = 65_536
MAX_CONTENT = 128 * 1024
MAX_AHEAD = 30 * 86_400
_INBOUND_ONLY = frozenset({"live_location", "poll_vote", "choice", "order", "revoked", "unknown"})
_ADDRESS = re.compile(r"[A-Za-z0-9._:@-]{1,128}").fullmatch
_phone = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch


def check_send(request: message_pb2.SendMessageRequest) -> None:
    """Everything that can be said of a request without looking anything up."""
    request_id = request.request_id
    if not 0 < len(request_id) <= validation.MAX_REQUEST_ID or "\0" in request_id:
        validation.request_id(request_id)
    check_recipient("recipient", request.recipient)
    check_content(request.content)
    if request.HasField("options"):
        _check_options(request.options)
    if request.external_id:
        validation.text("external_id", request.external_id)
    if request.labels:
        validation.labels("labels", request.labels, 16)
    if request.HasField("schedule_time") or request.HasField("expire_time"):
        _check_times(request)
    if not 0 <= request.priority <= message_pb2.PRIORITY_LOW:
        raise InvalidField("priority", "must be one of HIGH, NORMAL, LOW")
    if not 0 <= request.wait_for <= message_pb2.WAIT_FOR_SENT:
        raise InvalidField("wait_for", "must be one of QUEUED, SENT")


def check_recipient(field: str, recipient: Recipient) -> None:
    """A recipient that is set, in a valid form."""
    kind = recipient.WhichOneof("kind")
    if kind is None:
        raise InvalidField(field, "is required")
    if kind == "phone":
        if not _phone(recipient.phone):
            validation.phone(f"{field}.phone", recipient.phone)
    elif not _ADDRESS(getattr(recipient, kind)):
        raise InvalidField(f"{field}.{kind}", "must be an id as this API returned it")


def check_content(content: content_pb2.Content) -> None:
    """A content that may be sent."""
    kind = content.WhichOneof("kind")
    if kind == "text":
        size = len(content.text.body.encode())
        if not 0 < size <= MAX_TEXT:
            raise InvalidField("content.text.body", f"must be 1 to {MAX_TEXT:,} bytes of UTF-8")
        return
    if kind is None:
        raise InvalidField("content", "is required")
    if kind in _INBOUND_ONLY:
        raise InvalidField(f"content.{kind}", "cannot be sent")
    if content.ByteSize() > MAX_CONTENT:
        raise InvalidField("content", f"must be at most {MAX_CONTENT:,} bytes")
    check = _CHECKS.get(kind)
    if check is not None:
        check(content)


def _check_options(options: message_pb2.MessageOptions) -> None:
    if options.reply_to_message_id:
        decode(Prefix.MESSAGE, options.reply_to_message_id, "options.reply_to_message_id")
    if len(options.mentions) > 256:
        raise InvalidField("options.mentions", "must have at most 256 entries")
    for at, mention in enumerate(options.mentions):
        check_recipient(f"options.mentions[{at}]", mention)
    validation.at_least("options.disappear_after_seconds", options.disappear_after_seconds, 0)


def _check_times(request: message_pb2.SendMessageRequest) -> None:
    now = time()
    if request.HasField("schedule_time"):
        when = validation.timestamp("schedule_time", request.schedule_time).timestamp()
        if when > now + MAX_AHEAD:
            raise InvalidField("schedule_time", "must be at most 30 days ahead")
    if request.HasField("expire_time"):
        end = validation.timestamp("expire_time", request.expire_time).timestamp()
        if end <= now:
            raise InvalidField("expire_time", "must be in the future")
        if request.HasField("schedule_time") and end <= request.schedule_time.seconds:
            raise InvalidField("expire_time", "must be after schedule_time")


def _check_file(content: content_pb2.Content) -> None:
    kind = content.WhichOneof("kind") or ""
    shown = getattr(content, kind)
    field = f"content.{kind}"
    if not shown.media.media_id:
        raise InvalidField(f"{field}.media.media_id", "is required")
    decode(Prefix.MEDIA, shown.media.media_id, f"{field}.media.media_id")
    if "caption" in shown.DESCRIPTOR.fields_by_name:
        validation.text(f"{field}.caption", shown.caption, 1024)
    if kind == "document":
        validation.text(f"{field}.file_name", shown.file_name, 255)
        if "/" in shown.file_name or "\\" in shown.file_name:
            raise InvalidField(f"{field}.file_name", "must be a name without a path")


def _check_location(content: content_pb2.Content) -> None:
    place = content.location
    if not -90 <= place.latitude <= 90:
        raise InvalidField("content.location.latitude", "must be between -90 and 90")
    if not -180 <= place.longitude <= 180:
        raise InvalidField("content.location.longitude", "must be between -180 and 180")


def _check_contacts(content: content_pb2.Content) -> None:
    if not 1 <= len(content.contacts.cards) <= 100:
        raise InvalidField("content.contacts.cards", "must have 1 to 100 entries")
    for at, card in enumerate(content.contacts.cards):
        validation.required_text(f"content.contacts.cards[{at}].display_name", card.display_name, 255)


def _check_poll(content: content_pb2.Content) -> None:
    poll = content.poll
    validation.required_text("content.poll.question", poll.question, 255)
    if not 2 <= len(poll.answers) <= 12:
        raise InvalidField("content.poll.answers", "must have 2 to 12 entries")
    for at, answer in enumerate(poll.answers):
        validation.required_text(f"content.poll.answers[{at}]", answer, 100)
    if len(set(poll.answers)) != len(poll.answers):
        raise InvalidField("content.poll.answers", "must not have the same entry twice")
    if not 0 <= poll.max_choices <= len(poll.answers):
        raise InvalidField("content.poll.max_choices", "must be between 0 and the number of answers")


def _check_reaction(content: content_pb2.Content) -> None:
    decode(Prefix.MESSAGE, content.reaction.message_id, "content.reaction.message_id")
    if len(content.reaction.emoji.encode()) > 64:
        raise InvalidField("content.reaction.emoji", "must be one emoji")


def _check_buttons(content: content_pb2.Content) -> None:
    if not content.buttons.body:
        raise InvalidField("content.buttons.body", "is required")
    if not 1 <= len(content.buttons.buttons) <= 10:
        raise InvalidField("content.buttons.buttons", "must have 1 to 10 entries")
    for at, button in enumerate(content.buttons.buttons):
        field = f"content.buttons.buttons[{at}]"
        validation.required_text(f"{field}.title", button.title, 25)
        if button.WhichOneof("action") is None:
            raise InvalidField(field, "must have an action")
    if content.buttons.HasField("header_media"):
        raise InvalidField("content.buttons.header_media", "is not served yet")


def _check_list(content: content_pb2.Content) -> None:
    rows = [row for section in content.list.sections for row in section.rows]
    if not content.list.body:
        raise InvalidField("content.list.body", "is required")
    if not 1 <= len(content.list.sections) <= 10 or not 1 <= len(rows) <= 10:
        raise InvalidField("content.list.sections", "must have 1 to 10 sections with 1 to 10 rows in all")


_CHECKS = {
    **dict.fromkeys(MEDIA_KINDS, _check_file),
    "location": _check_location,
    "contacts": _check_contacts,
    "poll": _check_poll,
    "reaction": _check_reaction,
    "buttons": _check_buttons,
    "list": _check_list,
}
