"""The guards of what networks tell beside messages, each with the edit that removes it."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_NODE = "services/session-node/mesh_session_node"
_NOTICES = "tests/unit/test_session_notices.py"

NOTICES = (
    Mutation(
        "a notice is acknowledged once it is stored",
        f"{_NODE}/inbound/notices.py",
        "                if stored:\n                    self._acknowledge(session, told)\n",
        "                self._acknowledge(session, told)\n",
        f"{_NOTICES} -k fence_refuses",
    ),
    Mutation(
        "a notice is acknowledged over the connection that told it",
        f"{_NODE}/inbound/notices.py",
        "if told.sequence and present is not None and _is_of(session, told):",
        "if told.sequence and present is not None:",
        f"{_NOTICES} -k another_connection",
    ),
    Mutation(
        "what comes behind a notice that was let go is let go, too",
        f"{_NODE}/inbound/notices.py",
        "        if sequence and queue.missed is not None and _same_connection(queue.missed, told):\n",
        "        if False:\n",
        f"{_NOTICES} -k more_than_can_wait",
    ),
    Mutation(
        "one account's notices are bounded",
        f"{_NODE}/inbound/notices.py",
        "        full = len(queue.waiting) >= MAX_WAITING or self._of_tenants[session.ref.tenant] >= free\n",
        "        full = self._of_tenants[session.ref.tenant] >= free\n",
        f"{_NOTICES} -k only_of_the_moment",
    ),
    Mutation(
        "what a notice is about does not change until it is stored",
        f"{_NODE}/inbound/notices.py",
        "        async with taker.turn(session, told.notice):\n",
        "        if taker.turn(session, told.notice):\n",
        f"{_NOTICES} -k nothing_else_changes",
    ),
    Mutation(
        "that a message was read is taken once the message is stored",
        f"{_NODE}/inbound/chat_notices.py",
        "        if notice.network_id:  # after",
        "        if False:  # after",
        "tests/integration/test_chats.py -k as_it_comes",
    ),
    Mutation(
        "a call is told once",
        f"{_NODE}/inbound/calls.py",
        "        if found is not None:\n            return ()\n",
        "",
        "tests/unit/test_session_presence.py -k told_once",
    ),
    Mutation(
        "presence is told of those who are watched",
        f"{_NODE}/context/presence.py",
        "            if watch is not None and watch.until > now:\n",
        "            if watch is not None:\n",
        "tests/unit/test_session_presence.py -k ends_by_itself",
    ),
    Mutation(
        "nothing is told of whom an account watched that has left",
        f"{_NODE}/inbound/presence.py",
        "if not session.closed and watch.until",
        "if watch.until",
        "tests/unit/test_session_presence.py -k has_left",
    ),
)
