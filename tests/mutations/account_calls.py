"""The guards of calls about accounts, each with the edit that removes it."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, latest

_NODE = "services/session-node/mesh_session_node"
_ACTS = "tests/integration/test_message_acts.py"
_KEPT = "lib/mesh_core/kept/answers.py"
_ANSWERS = "tests/integration/test_answers_and_albums.py"
_CALLS = "tests/unit/test_account_calls.py"
_ANSWERS = "tests/integration/test_kept_answers.py"

ACCOUNT_CALLS = (
    Mutation(
        "a request that was answered is answered again, and not acted on",
        f"{_NODE}/calls/account_call.py",
        "            if first is not None:\n",
        "            if first is not None and first.digest != digest:\n",
        f"{_ACTS} -k same_edit_again",
    ),
    Mutation(
        "a request id is of one payload",
        f"{_NODE}/calls/account_call.py",
        "                if first.digest != digest:\n                    raise _reused()\n",
        "",
        f"{_ACTS} -k same_edit_again",
    ),
    Mutation(
        "a request that comes twice at once acts once",
        f"{_NODE}/calls/account_call.py",
        "        running = self._answering.get(key)\n",
        "        running = None\n",
        f"{_CALLS} -k twice_at_once",
    ),
    Mutation(
        "no picture is shown that the caller's key does not see",
        f"{_NODE}/calls/pictures.py",
        "    if not current_identity().sees_account(media.account_id):\n",
        "    if False:\n",
        "tests/integration/test_profiles.py -k does_not_see",
    ),
    Mutation(
        "a job about history ends when that is asked for, wherever its account is",
        f"{_NODE}/inbound/history.py",
        "                await self._jobs.end_unwanted(shards)\n",
        "",
        "tests/integration/test_history.py -k not_connected",
    ),
    Mutation(
        "a page of the past is stored with what tells of it",
        f"{_NODE}/inbound/history.py",
        "        outcome = await session.host.journal.write(session.ref, *rows, *told)\n",
        "        outcome = await session.host.journal.write(session.ref, *rows)\n"
        "        await session.host.journal.write(session.ref, *told)\n",
        "tests/unit/test_session_history.py -k one_commit",
    ),
    Mutation(
        "how far a job is passes the fence",
        "lib/mesh_core/database/migrations/versions/0022_receipt_parts.sql",
        "j.end_time IS NULL AND s.acc <> ALL (gone);",
        "j.end_time IS NULL;",
        "tests/integration/test_journal_fence.py -k job",
    ),
    Mutation(
        "what the database refuses of a past does not stop the rest of it",
        f"{_NODE}/inbound/history.py",
        "        if isinstance(outcome, Poison):\n            for one in came:",
        "        if False:\n            for one in came:",
        "tests/unit/test_session_history.py",
    ),
    Mutation(
        "answers that name an erased person are emptied",
        "services/router/mesh_router/retention/erasing.py",
        "    for _ in await connection.fetch(_ANSWERS, tenant, who.marks()):\n        yield Item.ERASED\n",
        "",
        "tests/integration/test_router_persons.py -k name_them_no_more",
    ),
    Mutation(
        "what is followed while the list of channels is read stays so",
        f"{_NODE}/calls/channels/channel_reading.py",
        "            async with self._channels.turn(context):\n",
        "            if self._channels.turn(context):\n",
        "tests/unit/test_session_channels.py -k stays_followed",
    ),
    Mutation(
        "what becomes of groups while their list is read is newer than the list",
        f"{_NODE}/inbound/group_list.py",
        "        return now is not None and now != before.get(address)\n",
        "        return False\n",
        "tests/unit/test_session_group_list.py -k stays_changed",
    ),
    Mutation(
        "what a driver does not declare is not reached",
        f"{_NODE}/calls/account_call.py",
        "        if capability not in context.driver.capabilities:\n",
        "        if False:\n",
        f"{_CALLS} -k not_declare",
    ),
    Mutation(
        "nothing is done for an account that is lost",
        f"{_NODE}/calls/account_call.py",
        "        if not session.permitted():\n",
        "        if False:\n",
        f"{_CALLS} -k lost_the_account",
    ),
    Mutation(
        "a vote behind a later one is not counted",
        f"{_NODE}/inbound/votes.py",
        "            elif record.time > micros:\n",
        "            elif False:\n",
        f"{_ANSWERS} -k behind_a_later_one",
    ),
    Mutation(
        "a voter is one by each of their names",
        f"{_NODE}/inbound/votes.py",
        "        names = {voter.address, *names_of(voter), *await",
        "        names = {member} or {*await",
        "tests/unit/test_session_votes.py -k learnt",
    ),
    Mutation(
        "a person is resolved for each account by itself",
        f"{_NODE}/calls/contacts/contact_service.py",
        'one: f"{session.context.ref.uuid.hex}/{one}" for one',
        "one: one for one",
        "tests/unit/test_session_resolved_people.py",
    ),
    Mutation(
        "the parts of an album are stored once",
        f"{_NODE}/calls/messages/sending.py",
        'part, Method.SEND_ALBUM_PART, f"{message.id}/{at}", None)',
        'part, Method.SEND_ALBUM_PART, "", None)',
        f"{_ANSWERS} -k album",
    ),
    Mutation(
        "records are written by the account's owner alone",
        latest("journal_write"),
        "        WHERE value IS NOT NULL AND acc <> ALL (gone)\n      ON CONFLICT (account, kind",
        "        WHERE value IS NOT NULL\n      ON CONFLICT (account, kind",
        'tests/integration/test_journal_fence.py -k "lost_shard and record"',
    ),
    Mutation(
        "no tenant is answered with what another one asked",
        _KEPT,
        'f"{_PREFIX}:{self.what}:{{{self.tenant.hex}}}:{self.network}"',
        'f"{_PREFIX}:{self.what}:{self.network}"',
        f"{_ANSWERS} -k another_tenant",
    ),
    Mutation(
        "what was answered ends",
        _KEPT,
        "KEYS[2], name) or 0) <= now then",
        "KEYS[2], name) or 0) <= 0 then",
        f"{_ANSWERS} -k two_to_four_hours",
    ),
    Mutation(
        "a tenant has so many answers kept and no more",
        _KEPT,
        "if over > 0 then",
        "if false then",
        f"{_ANSWERS} -k too_many",
    ),
    Mutation(
        "a Redis that is silent is left alone",
        _KEPT,
        "time.monotonic() < self._away_until",
        "False",
        f"{_ANSWERS} -k silent",
    ),
)
