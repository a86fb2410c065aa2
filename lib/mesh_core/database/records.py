"""What an account's owner keeps of what happened there beside messages: the kinds of `account_record`."""

from __future__ import annotations

from enum import IntEnum


class RecordKind(IntEnum):
    """What a record is, as stored. Append only."""

    POLL_VOTE = 1
    """What somebody chose in a poll. `key`: the poll's message, as 32 hexadecimal digits; `member`: the
    voter's address; `value`: a serialised sessionmesh.v1.PollVoteContent with `answers` alone; `time`:
    when they did.
    """
