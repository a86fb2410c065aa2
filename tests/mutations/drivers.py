"""The guards of drivers' rows, and of connections that may still send, each with the edit that removes it."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, latest

_NODE = "services/session-node/mesh_session_node"
_ROWS = "tests/unit/test_session_driver_rows.py"
_CLOSING = "tests/unit/test_session_closing.py"

DRIVERS = (
    Mutation(
        "rows are stored before what was made from them leaves",
        f"{_NODE}/drivers/memory/rows.py",
        "            if not stored or not self._permitted():\n",
        "            if not self._permitted():\n",
        "tests/contract/test_driver_contract.py -k refused_never_leaves",
    ),
    Mutation(
        "rows wait for the message before them",
        f"{_NODE}/context/driver_rows.py",
        "        if self._arrivals:\n",
        "        if not self._arrivals and self._arrivals:\n",
        f"{_ROWS} -k behind_a_message",
    ),
    Mutation(
        "no rows are stored behind some that were not",
        f"{_NODE}/context/driver_rows.py",
        "        if not stored:\n            self._fail()\n",
        "",
        f"{_ROWS} -k made_from_what_was_not",
    ),
    Mutation(
        "a message's rows are stored with it",
        f"{_NODE}/inbound/arrivals.py",
        "        brought = () if changes is None else changes.take()\n",
        "        brought = ()\n",
        f"{_ROWS} -k one_unit",
    ),
    Mutation(
        "a message's rows are stored before the network is told",
        f"{_NODE}/inbound/arrivals.py",
        "        if self.changes is not None and not self.changes.handed_over:\n            self.store",
        "        if self.changes is not None and not self.changes.settled:\n            self.store",
        f"{_ROWS} -k needs_no_storing",
    ),
    Mutation(
        "rows of a pairing are stored with it",
        f"{_NODE}/account/session.py",
        "            rows += [ForgetDriverRows(), *seal_rows(context.host, context.ref, paired.rows)]\n",
        "            rows += []\n",
        f"{_ROWS} -k new_pairing",
    ),
    Mutation(
        "rows go with the pairing",
        f"{_NODE}/account/session.py",
        "        self.go(event, detail, ForgetDriverRows())\n",
        "        self.go(event, detail)\n",
        f"{_ROWS} -k go_with_the_pairing",
    ),
    Mutation(
        "the fence of drivers' rows",
        latest("journal_write"),
        "FROM unnest(driver_rows) AS r WHERE r.value IS NOT NULL AND r.acc <> ALL (gone)",
        "FROM unnest(driver_rows) AS r WHERE r.value IS NOT NULL",
        "tests/integration/test_journal_driver_rows.py -k lost_the_shard",
    ),
    Mutation(
        "a shard is given back after its connections are closed",
        f"{_NODE}/node/shard_handler.py",
        "        registry.leave(shards)\n        await _gone(sessions)\n",
        "        registry.leave(shards)\n",
        f"{_CLOSING} -k is_given_back_once_nothing",
    ),
    Mutation(
        "a shard that comes back waits for its closed connections",
        f"{_NODE}/node/shard_handler.py",
        "            await asyncio.wait(self._leaving)\n",
        "            pass\n",
        f"{_CLOSING} -k comes_back",
    ),
    Mutation(
        "a connection waits for the one before",
        f"{_NODE}/account/connector.py",
        "                await self._past.closed()\n                self._past = None\n",
        "                self._past = None\n",
        f"{_CLOSING} -k next_connection",
    ),
)
