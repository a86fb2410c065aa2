"""Queries about chats: what their phones still have of them, and when their messages disappear."""

from __future__ import annotations

import time

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import GROUP, PHONE
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, error
from mesh_simulator.messages.notices import Notices
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_PAGE = 50
"""Messages of the past in one answer."""
_DAY_US = 86_400_000_000


class ChatQueries:
    """Answers them. The past of a chat is made up as it is asked for: its messages have numbers from 0, the
    oldest, and were written a second apart.
    """

    def __init__(self, directory: Directory, notices: Notices) -> None:
        self._directory = directory
        self._notices = notices
        self._end_us = time.time_ns() // 1000 - _DAY_US

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {"fetch_history": self._fetch_history, "set_disappearing": self._set_disappearing}

    def _fetch_history(self, account: Account, query: wire.Query) -> wire.Answer:
        wanted = query.fetch_history
        if not 1 <= wanted.most <= MAX_PAGE:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "1 to 50 messages at once")
        count = 0 if account.past is None else account.past.get(wanted.chat, 0)
        end = self._number_of(wanted, count)
        first = max(end - wanted.most, 0)
        answer = wire.Answer(id=query.id, history=wire.History(exhausted=first == 0))
        for number in reversed(range(first, end)):
            answer.history.messages.append(self._message(account, wanted.chat, number, count))
        return answer

    def _number_of(self, wanted: wire.FetchHistory, count: int) -> int:
        """The number of the message before which to begin."""
        prefix, _, number = wanted.before_message_id.rpartition("-")
        if prefix == _prefix(wanted.chat) and number.isdecimal():
            return min(int(number), count)
        if not wanted.before_us:
            return count
        oldest = self._end_us - count * 1_000_000
        return max(0, min(-(-(wanted.before_us - oldest) // 1_000_000), count))

    def _message(self, account: Account, chat: str, number: int, count: int) -> wire.Inbound:
        own = bool(number % 2)
        sender = PHONE + account.phone if own else chat
        content = wire.Content(text=f"message {number} of the past")
        return wire.Inbound(
            id=f"{_prefix(chat)}-{number}",
            sender=sender,
            chat=chat,
            content=content.SerializeToString(),
            time_us=self._end_us - (count - number) * 1_000_000,
            from_me=own,
        )

    def _set_disappearing(self, account: Account, query: wire.Query) -> wire.Answer:
        wanted = query.set_disappearing
        other = None if wanted.chat.startswith(GROUP) else self._directory.find(wanted.chat)
        if other is None:
            return error(query, wire.QUERY_ERROR_REASON_UNKNOWN_PERSON, "no such person")
        if isinstance(other, Account):
            address = self._directory.address_of(account.phone)
            told = wire.DisappearingSet(chat=address, seconds=wanted.seconds)
            self._notices.offer(other, wire.Notice(disappearing_set=told))
        return wire.Answer(id=query.id, done=wire.Done())


def _prefix(chat: str) -> str:
    return f"PAST-{chat.partition(':')[2].lstrip('+')}"
