"""Chats as Postgres has them, one by one, and pages of an account's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.reads import Reads, searched


@dataclass(frozen=True, slots=True)
class ChatFilter:
    """Which chats of an account to list. `after`: behind the chat with this time, in microseconds since the
    epoch, and address, which ended the page before. `label_id`: "" leaves none out.
    """

    unread_only: bool = False
    label_id: str = ""
    show_archived: bool = False
    after: tuple[int, str] | None = None


class ChatStore:
    """Reads chats, whose rows have the columns of the table, with `addresses`: all that the chat's messages
    have, `labels`, and `micros`: when the last message came. Raises what `mesh_core.database.UNAVAILABLE`
    names.
    """

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def fold(self, account: UUID) -> None:
        """Have the chats know of all messages that are stored: before they are read."""
        while await self._pool.fetchval(_FOLD, account, _FOLDED_AT_ONCE) == _FOLDED_AT_ONCE:
            pass

    async def chat(self, account: UUID, addresses: Collection[str]) -> Record | None:
        """The chat with one of these addresses, all of one person: the one with the latest message."""
        return await self._pool.fetchrow(_CHAT, account, [*addresses])

    async def page(self, account: UUID, wanted: ChatFilter, limit: int) -> list[Record]:
        """At most `limit` chats, the one with the latest message first. Raises `DeadlineExceeded`
        SEARCH_TOO_LONG, too: what a filter leaves out is looked at all the same.
        """
        micros, chat = wanted.after or (None, None)
        return await searched(
            self._pool,
            _PAGE,
            account,
            wanted.unread_only,
            wanted.label_id,
            wanted.show_archived,
            micros,
            chat,
            limit,
        )

    async def following(self, account: UUID, chat: str) -> str | None:
        """The address of the chat behind this one, by their addresses; of the first one for ""."""
        found: str | None = await self._pool.fetchval(_FOLLOWING, account, chat)
        return found

    async def last_messages(self, account: UUID, ids: Sequence[UUID]) -> dict[UUID, Record]:
        """The rows of chats' last messages, by id; of what is large without its content."""
        return {row["id"]: row for row in await self._pool.fetch(_LAST, account, [*ids])}

    async def unread(self, account: UUID, chat: Record, limit: int) -> list[Record]:
        """The last messages of a chat that others wrote and that are not read, newest first, at most
        `limit`: of as many as the chat counts.
        """
        most = min(limit, chat["unread"])
        return await self._pool.fetch(_UNREAD, account, chat["addresses"], most)

    async def unread_behind(self, account: UUID, chat: Record, message: UUID) -> int:
        """How many messages of a chat that are not read came after this one."""
        return int(await self._pool.fetchval(_UNREAD_BEHIND, account, chat["addresses"], message))

    async def sent_until(self, account: UUID, chat: Record, micros: int) -> UUID | None:
        """The last message of a chat that was sent until a time, in microseconds since the epoch, of those
        that came last.
        """
        found: UUID | None = await self._pool.fetchval(_SENT_UNTIL, account, chat["addresses"], micros)
        return found

    async def oldest(self, account: UUID, addresses: Collection[str]) -> Record | None:
        """The message under one of these addresses that the network had first, of those that are stored."""
        return await self._pool.fetchrow(_OLDEST, account, [*addresses])


_FOLDED_AT_ONCE = 1_000
_FOLD = "SELECT chat_fold($1, $2)"
_COLUMNS = """c.chat, last_message, unread, archived, marked_unread, pinned, mute_until, disappear, name,
  (extract(epoch FROM last_time) * 1000000)::bigint AS micros, addresses, ARRAY(
    SELECT DISTINCT member FROM account_record r
    WHERE r.account = $1 AND r.kind = 31 AND r.key = ANY (addresses) ORDER BY member
  ) AS labels"""
_ADDRESSES = """CROSS JOIN LATERAL (SELECT c.chat || ARRAY(
    SELECT a.chat FROM chat a WHERE a.account = $1 AND a.same_as = c.chat AND a.same_as <> a.chat ORDER BY 1
  ) AS addresses) others"""
_CHAT = f"""SELECT {_COLUMNS} FROM chat c {_ADDRESSES} WHERE account = $1 AND chat IN (
    SELECT coalesce(same_as, chat) FROM chat WHERE account = $1 AND chat = ANY ($2::text[]))
  AND NOT deleted ORDER BY last_time DESC LIMIT 1"""  # noqa: S608 - constants
_PAGE = f"""SELECT {_COLUMNS} FROM (
    SELECT * FROM chat WHERE account = $1 AND coalesce(same_as, chat) = chat AND NOT deleted
      AND ($4 OR NOT archived) AND (NOT $2 OR unread > 0 OR marked_unread) AND ($3 = '' OR chat IN (
        SELECT coalesce(a.same_as, l.key) FROM account_record l
        LEFT JOIN chat a ON a.account = $1 AND a.chat = l.key
        WHERE l.account = $1 AND l.kind = 31 AND l.member = $3))
      AND ($5::bigint IS NULL OR (last_time, chat) < (at_micros($5), $6::text))
    ORDER BY last_time DESC, chat DESC LIMIT $7
  ) c {_ADDRESSES} ORDER BY last_time DESC, chat DESC"""  # noqa: S608 - constants
_FOLLOWING = """SELECT chat FROM chat
  WHERE account = $1 AND chat > $2 AND coalesce(same_as, chat) = chat AND NOT deleted ORDER BY chat LIMIT 1"""
# What strangers once said of their clocks may be stored as times that no program can hold.
_TIMES = ", ".join(
    f"CASE WHEN {column} BETWEEN '0001-01-02' AND '9999-12-30' THEN {column} END AS {column}"
    for column in ("update_time", "network_time", "edit_time")
)
_LAST = f"""SELECT id, direction, origin, status, chat, network_id, traceparent, failure, failure_code,
    failure_detail, {_TIMES},
    CASE WHEN octet_length(content) <= 16384 THEN content ELSE ''::bytea END AS content
  FROM message WHERE account = $1 AND id = ANY ($2)"""  # noqa: S608 - constants
_UNREAD = """SELECT m.id, m.network_id, m.content, m.origin, m.chat FROM message m
    LEFT JOIN chat a ON a.account = $1 AND a.chat = m.chat
  WHERE m.account = $1 AND m.chat = ANY ($2::text[]) AND m.direction = 2 AND m.beside IS NULL
    AND (m.id > a.read_until) IS NOT FALSE
  ORDER BY m.id DESC LIMIT $3"""
_UNREAD_BEHIND = """SELECT count(*) FROM (SELECT id, chat, direction, beside FROM message
    WHERE account = $1 AND id > $3 ORDER BY id DESC LIMIT 5000) AS newer
  LEFT JOIN chat a ON a.account = $1 AND a.chat = newer.chat
  WHERE newer.chat = ANY ($2::text[]) AND direction = 2 AND beside IS NULL
    AND (newer.id > a.read_until) IS NOT FALSE"""
_SENT_UNTIL = """SELECT id FROM (SELECT id, network_time FROM message
    WHERE account = $1 AND chat = ANY ($2::text[]) ORDER BY id DESC LIMIT 5000) AS newest
  WHERE network_time < at_micros($3) + interval '1 second' ORDER BY id DESC LIMIT 1"""
_OLDEST = """SELECT id, network_id, direction, origin, chat, content, network_time, status FROM message
  WHERE account = $1 AND chat = ANY ($2::text[]) AND network_id <> '' AND octet_length(content) > 0
  ORDER BY coalesce(network_time, 'infinity'), id LIMIT 1"""
