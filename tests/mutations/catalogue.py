"""The guards that keep a session single and a message whole, each with the edit that takes it out."""

from __future__ import annotations

from dataclasses import dataclass

_SQL = "lib/mesh_core/database/migrations/versions"
_OWNERSHIP = "lib/mesh_core/ownership"
_NODE = "services/session-node/mesh_session_node"
_MEDIA = "services/media/mesh_media"
_RETENTION = "services/router/mesh_router/retention"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` stands exactly once in `path`; with `new` in its place one of `tests` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str


CATALOGUE = (
    Mutation(
        "the journal's lock of its incarnation",
        f"{_SQL}/0010_sessions_and_journal.sql",
        "PERFORM FROM node_incarnation WHERE id = me AND NOT expired FOR KEY SHARE;",
        "PERFORM FROM node_incarnation WHERE id = me AND NOT expired;",
        "tests/integration/test_journal.py -k takeover",
    ),
    Mutation(
        "the judge's lock of the incarnation",
        f"{_SQL}/0002_ownership.sql",
        "ORDER BY n.id FOR UPDATE);",
        "ORDER BY n.id FOR NO KEY UPDATE);",
        "tests/integration/test_journal.py -k last_batch",
    ),
    Mutation(
        "the fence's comparison of epochs",
        f"{_SQL}/0010_sessions_and_journal.sql",
        "WHERE (f.holder = me AND f.epoch = a.epoch AND NOT f.released) IS NOT TRUE;",
        "WHERE (f.holder = me AND NOT f.released) IS NOT TRUE;",
        "tests/integration/test_journal.py -k stale_epoch",
    ),
    Mutation(
        "the fence's comparison of holders",
        f"{_SQL}/0010_sessions_and_journal.sql",
        "WHERE (f.holder = me AND f.epoch = a.epoch AND NOT f.released) IS NOT TRUE;",
        "WHERE (f.epoch = a.epoch AND NOT f.released) IS NOT TRUE;",
        "tests/integration/test_journal.py -k not_the_holder",
    ),
    Mutation(
        "what was released is written no more",
        f"{_SQL}/0010_sessions_and_journal.sql",
        "WHERE (f.holder = me AND f.epoch = a.epoch AND NOT f.released) IS NOT TRUE;",
        "WHERE (f.holder = me AND f.epoch = a.epoch) IS NOT TRUE;",
        "tests/integration/test_journal.py -k given_back",
    ),
    Mutation(
        "the deadline of the lease",
        f"{_OWNERSHIP}/participant/keeper.py",
        "return tenure.lease == self.lease != 0 and now < self._etcd_sent + self.timings.hard",
        "return tenure.lease == self.lease != 0",
        "tests/unit/test_ownership_keeper.py",
    ),
    Mutation(
        "the deadline of the beat",
        f"{_OWNERSHIP}/participant/keeper.py",
        "return now < self._pg_sent + self.timings.hard",
        "return self._pg_sent > -math.inf",
        "tests/unit/test_ownership_keeper.py",
    ),
    Mutation(
        "the soft deadline",
        f"{_OWNERSHIP}/participant/keeper.py",
        "return self.may_run(tenure, now + self.timings.hard - self.timings.soft)",
        "return self.may_run(tenure, now)",
        "tests/unit/test_ownership_keeper.py",
    ),
    Mutation(
        "what passed its deadline stays lost",
        f"{_OWNERSHIP}/participant/keeper.py",
        "                for shard in lost:\n                    del self.tenures[shard]\n",
        "",
        "tests/unit/test_ownership_keeper.py",
    ),
    Mutation(
        "deadlines come before the answer is read",
        f"{_OWNERSHIP}/participant/keeper_thread.py",
        "            self._drop()\n            keeper.beat_answered(sent)\n",
        "            keeper.beat_answered(sent)\n",
        "tests/unit/test_keeper_thread.py",
    ),
    Mutation(
        "sockets are closed in time or the process ends",
        f"{_OWNERSHIP}/participant/keeper_thread.py",
        "        if not closed.is_set():\n",
        "        if False:\n",
        "tests/unit/test_keeper_thread.py",
    ),
    Mutation(
        "the condition on each shard's key",
        f"{_OWNERSHIP}/participant/keeper.py",
        "return tenure.lease == self.lease != 0 and now < self._etcd_sent + self.timings.hard",
        "return now < self._etcd_sent + self.timings.hard",
        "tests/unit/test_ownership_keeper.py",
    ),
    Mutation(
        "the deadline before each send",
        f"{_NODE}/outbound/sender.py",
        "        return context.host.may_act(context.ref)\n",
        "        return True\n",
        "tests/unit/test_session_ownership.py",
    ),
    Mutation(
        "the deadline before each connect",
        f"{_NODE}/account/connector.py",
        "        if not context.host.may_act(context.ref):\n            return\n",
        "",
        "tests/unit/test_session_ownership.py",
    ),
    Mutation(
        "the deadline at the end of each login",
        f"{_NODE}/account/connector.py",
        "        if not self._wanted() or not context.host.may_act(context.ref):\n",
        "        if not self._wanted():\n",
        "tests/unit/test_session_ownership.py",
    ),
    Mutation(
        "the watchdog's deadline",
        "lib/mesh_parent/page.py",
        "        if now >= self.kill_at:\n            return",
        "        if False:\n            return",
        "tests/integration/test_watchdog.py -k 'kill_at or deadline'",
    ),
    Mutation(
        "evidence of death spares the wait",
        f"{_SQL}/0002_ownership.sql",
        "(n.id = ANY (dead) OR n.beat_at < oldest_beat)",
        "n.beat_at < oldest_beat",
        "tests/integration/test_fence.py -k evidence",
    ),
    Mutation(
        "evidence counts for that incarnation only",
        f"{_SQL}/0002_ownership.sql",
        "(n.id = ANY (dead) OR n.beat_at < oldest_beat)",
        "(n.node = ANY (SELECT split_part(d, '-', 1) FROM unnest(dead) d) OR n.beat_at < oldest_beat)",
        "tests/integration/test_fence.py -k evidence",
    ),
    Mutation(
        "a holder that beats is not judged dead",
        f"{_SQL}/0002_ownership.sql",
        "(n.id = ANY (dead) OR n.beat_at < oldest_beat)",
        "true",
        "tests/integration/test_fence.py -k 'beat_in_time or evidence'",
    ),
    Mutation(
        "inbound messages are recognised again",
        f"{_SQL}/0010_sessions_and_journal.sql",
        "n.account = a_account[i.acc] AND n.network_id = i.network_id AND n.message <> i.id",
        "false",
        "tests/integration/test_journal.py -k repeat",
    ),
    Mutation(
        "the ratchet is stored before it is used",
        f"{_NODE}/outbound/sender.py",
        "state=None if reservation is None else context.seal(reservation.state),",
        "state=None,",
        "tests/integration/test_session_node_takeover.py -k killed",
    ),
    Mutation(
        "a repeated request acts once",
        f"{_SQL}/0010_sessions_and_journal.sql",
        "WHERE acc <> ALL (gone) AND row <> ALL (skip);\n    INSERT INTO outbox",
        "WHERE acc <> ALL (gone);\n    INSERT INTO outbox",
        "tests/integration/test_journal.py -k same_request",
    ),
    Mutation(
        "a call that was sent on is not sent on again",
        f"{_NODE}/node/forwarding.py",
        "if refused.shard is None or isinstance(context, BatchedContext):",
        "if refused.shard is None:",
        "tests/integration/test_session_node_misplaced.py -k not_sent_on_again",
    ),
    Mutation(
        "a newer epoch is looked into",
        f"{_NODE}/node/lookup.py",
        "if epoch > session.context.ref.epoch:",
        "if False:",
        "tests/unit/test_session_epochs.py",
    ),
    Mutation(
        "a call that is made again goes to the router",
        "services/router/mesh_router/xds/lookups.py",
        'owner = None if keys.get(ATTEMPTS_KEY) else self._owner(keys.get(ACCOUNT_KEY, ""))',
        'owner = self._owner(keys.get(ACCOUNT_KEY, ""))',
        "tests/integration/test_router_xds_clients.py -k former_owner",
    ),
    Mutation(
        "a cluster that does not come is not waited for",
        "services/router/mesh_router/xds/lookups.py",
        "if owner is None or self._nodes.node_address(owner.node_id) != owner.address:",
        "if owner is None:",
        "tests/integration/test_router_xds.py -k not_named",
    ),
    Mutation(
        "a stale nonce",
        "services/router/mesh_router/xds/client.py",
        "if nonce != watch.nonce:",
        "if False:",
        "tests/unit/test_router_xds_client.py -k older_response",
    ),
    Mutation(
        "a call that may have begun is told from one that has not",
        "lib/mesh_core/rpc/peers/client.py",
        "begun=begun and sent",
        "begun=False",
        "tests/integration/test_peer_connections.py -k server_dies",
    ),
    Mutation(
        "a message that waits keeps its day",
        f"{_RETENTION}/days.py",
        "    if not needed:\n",
        "    if True:\n",
        "tests/integration/test_retention.py -k waits_keeps_its_day",
    ),
    Mutation(
        "unread events keep their day",
        f"{_RETENTION}/days.py",
        "    if behind is None or",
        "    if True or",
        "tests/integration/test_retention.py -k have_not_read_stay",
    ),
    Mutation(
        "a message that waits keeps its content",
        f"{_RETENTION}/shorter.py",
        "AND status <> ALL ($5::smallint[])",
        "AND (status <> ALL ($5::smallint[])) IS NOT NULL",
        "tests/integration/test_retention.py -k waits_keeps_its_content",
    ),
    Mutation(
        "what waits for an erased person is left",
        f"{_RETENTION}/erasing.py",
        "AND status <> ALL ($4::smallint[])",
        "AND (status <> ALL ($4::smallint[])) IS NOT NULL",
        "tests/integration/test_router_persons.py -k waits",
    ),
    Mutation(
        "an account is to blame only while the network works for others",
        f"{_NODE}/node/network_health.py",
        "return works and not doubtful and not self.failing",
        "return True",
        "tests/unit/test_session_networks.py -k nobodys_fault",
    ),
    Mutation(
        "a tenant's share of the rooms for pairing",
        f"{_NODE}/account/pairing_rooms.py",
        "lambda tenant: self._held[tenant] < self._free",
        "lambda tenant: self._free > 0",
        "tests/unit/test_session_pairing.py -k never_holds_all_rooms",
    ),
    Mutation(
        "a chat's messages wait for those before them",
        f"{_NODE}/inbound/receiver.py",
        "if not self._in_order.busy(session, came.chat) and not",
        "if not",
        "tests/unit/test_session_receiver.py -k stored_in_its_order",
    ),
    Mutation(
        "what the account wrote is not received",
        f"{_NODE}/inbound/receiver.py",
        "if came.from_account or not is_one_of(session.own, came.sender, came.identity):",
        "if True:",
        "tests/unit/test_session_receiver.py -k never_received",
    ),
    Mutation(
        "what breaks a file off reaches who fetches it",
        f"{_NODE}/store/media.py",
        "if broken and not (task and task.cancelling()):",
        "if False:",
        "tests/unit/test_session_media_client.py -k upload_raises",
    ),
    Mutation(
        "only its writer edits a message that is still to come",
        f"{_NODE}/inbound/changes.py",
        "if _may_stand(place, message):",
        "if True:",
        "tests/unit/test_session_receiver.py -k undone_by_it",
    ),
    Mutation(
        "a whole file's comparison with its hash while it is sent",
        f"{_MEDIA}/api/reader.py",
        "    if digest.digest() != file.sha256:",
        "    if not file.sha256:",
        "tests/integration/test_media_links.py -k taken_for_whole",
    ),
    Mutation(
        "a moved object's comparison with its hash",
        f"{_MEDIA}/migration/copying.py",
        "        if digest.digest() != one.sha256:",
        "        if not one.sha256:",
        "tests/integration/test_media_migration.py -k damaged",
    ),
    Mutation(
        "the signature of a download link",
        f"{_MEDIA}/api/links.py",
        "if not compare_digest(mac, self._mac(said)) or not same",
        "if not same",
        "tests/integration/test_media_links.py -k changed_or_has_ended",
    ),
    Mutation(
        "a limit of their own for pictures that must be in memory whole",
        f"{_MEDIA}/processing/worker/picture_files.py",
        "most = min(job.max_pixels, MOST_WHOLE_PIXELS) if whole else job.max_pixels",
        "most = job.max_pixels",
        "tests/integration/test_media_bad_files.py -k interlaced",
    ),
    Mutation(
        "a worker's end with who waits for it",
        f"{_MEDIA}/processing/worker/__main__.py",
        "                    self._kill(descriptor)",
        "                    pass",
        "tests/integration/test_media_bad_files.py -k runs_on",
    ),
    Mutation(
        "a worker's limit of CPU",
        f"{_MEDIA}/processing/worker/sandbox.py",
        "    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_seconds, job.cpu_seconds + 1))\n",
        "",
        "tests/integration/test_media_bad_files.py -k more_time",
    ),
    Mutation(
        "the smaller of two pictures",
        f"{_MEDIA}/processing/worker/pictures.py",
        "    if len(data) >= job.size:",
        "    if not data:",
        "tests/integration/test_media_processing.py -k would_grow",
    ),
    Mutation(
        "a job's claim by one process",
        "lib/mesh_core/database/pool.py",
        "yield connection if await connection.fetchval(lock, work) else None",
        "yield connection if await connection.fetchval(lock, work) else connection",
        "tests/integration/test_job_steps.py -k two_processes",
    ),
)
