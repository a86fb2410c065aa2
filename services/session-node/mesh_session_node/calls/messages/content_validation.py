"""What the content of a message to send must be like, kind by kind, with the bounds of `content.proto`.

All raise `InvalidField` with the field's path, or `Unimplemented` NOT_SERVED for what this version does not
send. Lengths are in characters, which are Unicode code points, where nothing else is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from mesh_core import addresses, validation
from mesh_core.errors import InvalidField
from mesh_core.rpc.server.requests import check_part
from mesh_session_node.calls.messages.content_parts import (
    MAX_CAPTION,
    MAX_URL,
    check_coordinates,
    check_file,
    check_location,
    check_product,
    check_url,
    clear_outputs,
    not_served,
)
from mesh_session_node.calls.messages.interactive_validation import (
    MAX_REPLY_ID,
    check_address_request,
    check_buttons,
    check_flow,
    check_list,
    check_location_request,
    check_product_list,
    check_template,
)
from mesh_session_node.outbound.references import check_ref
from mesh_session_node.store.media import MEDIA_KINDS
from sessionmesh.v1 import content_pb2 as pb

MAX_TEXT = 65_536
"""Bytes of UTF-8."""
MAX_CONTENT = 128 * 1024
"""Bytes of a serialised content."""
MAX_SMALL_FILE = 64_000
"""Bytes of a vCard, and of a link preview's picture."""
MAX_POLL_ANSWERS = 12
MAX_EMOJI = 64
"""Bytes of UTF-8."""
INBOUND_ONLY = frozenset({"order", "form_reply", "revoked", "unavailable", "unknown"})


def check_text(text: pb.TextContent, *, posted: bool = False) -> None:
    """A text that may be sent: what most messages are, so it has a way of its own. `posted`: as a status."""
    if not 0 < len(text.body.encode()) <= MAX_TEXT:
        raise InvalidField("content.text.body", f"must be 1 to {MAX_TEXT:,} bytes of UTF-8")
    if text.preview_mode or text.HasField("preview"):
        _check_preview(text)
        if text.ByteSize() > MAX_CONTENT:
            raise InvalidField("content", f"must be at most {MAX_CONTENT:,} bytes")
    if text.HasField("style"):
        if not posted:
            raise InvalidField("content.text.style", "is for status posts only")
        _check_style(text.style)


def check_content(content: pb.Content) -> None:
    """Any other content that may be sent. What is not a caller's to say is cleared."""
    kind = content.WhichOneof("kind")
    if kind is None:
        raise InvalidField("content", "is required")
    field = f"content.{kind}"
    if kind in INBOUND_ONLY:
        raise InvalidField(field, "cannot be sent")
    if content.ByteSize() > MAX_CONTENT:
        raise InvalidField("content", f"must be at most {MAX_CONTENT:,} bytes")
    check = _CHECKS.get(kind)
    if check is None:
        raise not_served(field)
    shown = getattr(content, kind)
    clear_outputs(shown)
    check_part(field, shown)
    check(field, shown)


def _check_style(style: pb.TextStyle) -> None:
    for name in ("background_color", "text_color"):
        color = getattr(style, name)
        if color and not _color(color):
            raise InvalidField(f"content.text.style.{name}", "must be #RRGGBB")
    if style.font not in pb.TextFont.values():
        raise InvalidField("content.text.style.font", "must be one of the values of TextFont")


def _check_preview(text: pb.TextContent) -> None:
    field, mode, preview = "content.text.preview", text.preview_mode, text.preview
    if mode not in pb.LinkPreviewMode.values():
        raise InvalidField("content.text.preview_mode", "must be one of NONE, AUTO, CUSTOM")
    if mode == pb.LINK_PREVIEW_MODE_NONE:
        text.ClearField("preview_mode")
    if not text.HasField("preview"):
        if mode == pb.LINK_PREVIEW_MODE_CUSTOM:
            raise InvalidField(field, "is required with CUSTOM")
        return
    if mode != pb.LINK_PREVIEW_MODE_CUSTOM:
        raise InvalidField(field, "must only be there with CUSTOM")
    check_part(field, preview)
    check_url(f"{field}.url", preview.url)
    if preview.url not in text.body:
        raise InvalidField(f"{field}.url", "must stand in the text")
    validation.text(f"{field}.title", preview.title, 300)
    validation.text(f"{field}.description", preview.description, 1000)
    if len(preview.thumbnail) > MAX_SMALL_FILE:
        raise InvalidField(f"{field}.thumbnail", f"must be at most {MAX_SMALL_FILE:,} bytes")
    if preview.thumbnail and not preview.thumbnail.startswith(b"\xff\xd8\xff"):
        raise InvalidField(f"{field}.thumbnail", "must be a JPEG")


def _check_contact_cards(field: str, content: pb.ContactCardsContent) -> None:
    if not 1 <= len(content.cards) <= 100:
        raise InvalidField(f"{field}.cards", "must have 1 to 100 entries")
    for at, card in enumerate(content.cards):
        validation.required_text(f"{field}.cards[{at}].display_name", card.display_name, 255)
        if len(card.vcard.encode()) > MAX_SMALL_FILE:
            raise InvalidField(f"{field}.cards[{at}].vcard", f"must be at most {MAX_SMALL_FILE:,} bytes")


def _check_poll(field: str, poll: pb.PollContent) -> None:
    validation.required_text(f"{field}.question", poll.question, 255)
    if not 2 <= len(poll.answers) <= MAX_POLL_ANSWERS:
        raise InvalidField(f"{field}.answers", f"must have 2 to {MAX_POLL_ANSWERS} entries")
    for at, answer in enumerate(poll.answers):
        validation.required_text(f"{field}.answers[{at}]", answer, 100)
    if len(set(poll.answers)) != len(poll.answers):
        raise InvalidField(f"{field}.answers", "must not have the same entry twice")
    if not 0 <= poll.max_choices <= len(poll.answers):
        raise InvalidField(f"{field}.max_choices", "must be between 0 and the number of answers")


def _check_album(field: str, album: pb.AlbumContent) -> None:
    if not 2 <= len(album.items) <= 30:
        raise InvalidField(f"{field}.items", "must have 2 to 30 entries")
    for at, item in enumerate(album.items):
        kind = item.WhichOneof("kind")
        if kind is None:
            raise InvalidField(f"{field}.items[{at}]", "must be an image or a video")
        check_file(f"{field}.items[{at}].{kind}", getattr(item, kind))
    album.image_count = sum(item.HasField("image") for item in album.items)
    album.video_count = len(album.items) - album.image_count


def check_live_location(field: str, place: pb.LiveLocationContent) -> None:
    """A place that moves; that it has coordinates is checked before."""
    check_coordinates(field, place)
    for name in ("accuracy", "speed"):
        if getattr(place, name) < 0:
            raise InvalidField(f"{field}.{name}", "must not be negative")
    if not 0 <= place.heading < 360:
        raise InvalidField(f"{field}.heading", "must be from 0 to below 360")
    validation.text(f"{field}.caption", place.caption, MAX_CAPTION)
    if not place.HasField("duration"):
        place.duration.seconds = 3600
    if place.duration not in _SHARED_FOR:
        raise InvalidField(f"{field}.duration", "must be 15 minutes, 1 hour or 8 hours")


def _check_poll_vote(field: str, vote: pb.PollVoteContent) -> None:
    check_ref(f"{field}.poll", vote.poll)
    if len(vote.answers) > MAX_POLL_ANSWERS:
        raise InvalidField(f"{field}.answers", f"must have at most {MAX_POLL_ANSWERS} entries")
    for at, answer in enumerate(vote.answers):
        validation.required_text(f"{field}.answers[{at}]", answer, 100)
    if len(set(vote.answers)) != len(vote.answers):
        raise InvalidField(f"{field}.answers", "must not have the same entry twice")


def _check_choice(field: str, choice: pb.ChoiceContent) -> None:
    check_ref(f"{field}.message", choice.message)
    validation.required_text(f"{field}.reply_id", choice.reply_id, MAX_REPLY_ID)
    validation.text(f"{field}.title", choice.title, 25)
    validation.text(f"{field}.description", choice.description, 72)


def check_emoji(field: str, emoji: str) -> None:
    """One emoji, or none."""
    if len(emoji.encode()) > MAX_EMOJI or any(map(_is_no_emoji, emoji)):
        raise InvalidField(field, "must be one emoji")


def _check_reaction(field: str, reaction: pb.ReactionContent) -> None:
    check_ref(f"{field}.message", reaction.message)
    check_emoji(f"{field}.emoji", reaction.emoji)


def _is_no_emoji(character: str) -> bool:
    """Whether it can be no part of an emoji; which of all other characters can, changes each year."""
    letter = character.isalpha() and character != "\N{INFORMATION SOURCE}"
    return letter or character.isspace() or character < " "


def _check_group_invite(field: str, invite: pb.GroupInviteContent) -> None:
    invite.group = addresses.group(f"{field}.group", invite.group)
    validation.required_text(f"{field}.code", invite.code)
    validation.text(f"{field}.group_name", invite.group_name, 100)
    validation.text(f"{field}.caption", invite.caption, MAX_CAPTION)


def _check_appointment(field: str, appointment: pb.AppointmentContent) -> None:
    validation.required_text(f"{field}.name", appointment.name, 100)
    validation.text(f"{field}.description", appointment.description, 2048)
    start, end = appointment.start_time, appointment.end_time
    if appointment.HasField("end_time") and (end.seconds, end.nanos) < (start.seconds, start.nanos):
        raise InvalidField(f"{field}.end_time", "must not be before start_time")
    if appointment.HasField("location"):
        check_location(f"{field}.location", appointment.location)
    validation.text(f"{field}.join_url", appointment.join_url, MAX_URL)
    if appointment.join_url:
        check_url(f"{field}.join_url", appointment.join_url)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(MEDIA_KINDS, check_file),
    "location": check_location,
    "contact_cards": _check_contact_cards,
    "poll": _check_poll,
    "reaction": _check_reaction,
    "buttons": check_buttons,
    "list": check_list,
    "template": check_template,
    "group_invite": _check_group_invite,
    "appointment": _check_appointment,
    "product": check_product,
    "album": _check_album,
    "live_location": check_live_location,
    "poll_vote": _check_poll_vote,
    "choice": _check_choice,
    "product_list": check_product_list,
    "flow": check_flow,
    "location_request": check_location_request,
    "address_request": check_address_request,
}
_color = re.compile(r"#[0-9A-Fa-f]{6}").fullmatch
_SHARED_FOR = [Duration(seconds=minutes * 60) for minutes in (15, 60, 480)]
SENDABLE = frozenset({"text", *_CHECKS})
"""The kinds of content that can be sent."""
