"""Contents that answer an earlier message: votes and choices, which must be among what it offers;
reactions.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh_core.errors import InvalidField
from sessionmesh.v1 import content_pb2 as pb

ABOUT: Mapping[str, str] = {"reaction": "message", "poll_vote": "poll", "choice": "message"}
"""Kinds that can be sent and are about an earlier message, and their field that names it."""


def check_answer(answer: pb.Content, asked: pb.Content) -> None:
    """Raises `InvalidField` for an answer to something else than what was asked, as far as that is known."""
    if answer.HasField("poll_vote"):
        _check_vote(answer.poll_vote, asked)
    elif answer.HasField("choice"):
        _check_choice(answer.choice, asked)


def _check_vote(vote: pb.PollVoteContent, asked: pb.Content) -> None:
    if not asked.HasField("poll"):
        raise InvalidField("content.poll_vote.poll", "is no poll")
    poll = asked.poll
    for at, answer in enumerate(vote.answers):
        if answer not in poll.answers:
            raise InvalidField(f"content.poll_vote.answers[{at}]", "is none of the poll's answers")
    if poll.max_choices and len(vote.answers) > poll.max_choices:
        raise InvalidField("content.poll_vote.answers", f"must have at most {poll.max_choices} entries")


def _check_choice(choice: pb.ChoiceContent, asked: pb.Content) -> None:
    kind = asked.WhichOneof("kind")
    if kind == "buttons":
        offered = {button.reply_id for button in asked.buttons.buttons if button.HasField("reply_id")}
    elif kind == "list":
        offered = {row.reply_id for section in asked.list.sections for row in section.rows}
    elif kind == "template":
        return  # its buttons are the network's to know
    else:
        raise InvalidField("content.choice.message", "has nothing to choose from")
    if choice.reply_id not in offered:
        raise InvalidField("content.choice.reply_id", "is none of those that the message offers")
