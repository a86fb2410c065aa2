"""A mesh under load, and the judgement after each harm done to it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from mesh_cli.demo.receiver import Receiver
from mesh_core.ids import SHARDS, Prefix, decode, encode, shard_of
from mesh_core.ownership.planning.table import MOVE_BUDGET
from mesh_simulator.ledger.records import Kind as LedgerKind
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, message_pb2, session_pb2
from tests.faults.fleet.history import Kind, check_changes, check_outcome
from tests.faults.fleet.ledger import Logins
from tests.faults.fleet.leftovers import descriptors, leftovers, leftovers_of_stopped
from tests.faults.fleet.load import Load
from tests.faults.fleet.mesh import FaultMesh, Prepare, fault_mesh
from tests.faults.fleet.node import Node
from tests.faults.fleet.recorder import count_seizures, read_changes, read_outcome
from tests.faults.fleet.sites import Site
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, open_caller

QUIET_SECONDS = 60.0
CLEAN_SECONDS = 30.0
FOR_BALANCE = 2 * MOVE_BUDGET
"""Moves that the planner may make at any time, two rounds of them: it weighs shards by their traffic, which
changes. What a fault must not cost is a seizure, or a connection that was made anew for nothing.
"""
AWAY_AND_BACK = 2 * (SHARDS // 3 + FOR_BALANCE)
"""Moves of one of three nodes' shards to others and back."""
ALWAYS_THERE = {Kind.FENCE, Kind.MESSAGE, Kind.STATUS, Kind.EVENT, Kind.SESSION, Kind.CREDENTIAL}
LIMITS = account_pb2.SendLimits(per_minute=10_000, per_hour=100_000, per_day=100_000)


@dataclass(slots=True)
class Scene:
    """Accounts of one tenant send all the time; an endpoint is told of every message event."""

    mesh: FaultMesh
    admin: Caller
    load: Load
    receiver: Receiver
    _before: Logins
    _descriptors: dict[str, int]
    _epochs: dict[int, int] = field(default_factory=dict)
    _seizures: int = 0

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """What happens inside happens under load. Then everything must be right again: `judge`."""
        await self.mesh.until_settled()
        await self.until_online()
        self._before, self._epochs = self.mesh.logins(), await self.epochs()
        self._seizures = await count_seizures(self.mesh.database)
        self.load.longest_wait = 0.0
        async with self.load.running():
            await self.load.until_more(1)
            yield
            await self.load.until_more(2)
        await self.judge()

    async def judge(self) -> None:
        """Nothing lost, doubled, overlapping or stale; everything delivered, told and owned."""
        await self.mesh.until_settled()
        await self.until_online()
        await self._until_quiet()
        accounts = [account.id for account in self.load.accounts]
        outcome = await read_outcome(self.mesh.database, accounts)
        findings = check_outcome(outcome, self.load.acknowledged)
        changes = await read_changes(self.mesh.database)
        assert {change.kind for change in changes} >= ALWAYS_THERE, "the history is not recorded"
        findings += check_changes(changes)
        calls = simulator_pb2.GetVerdictRequest(calls=self.load.log)
        verdict = await self.admin(self.admin.simulator.GetVerdict, calls)
        assert verdict.clean, "\n".join(verdict.findings)
        assert not findings, "\n".join(findings[:20])
        assert self.receiver.received.refused == 0
        await self._until_told(accounts)
        await self._until_clean()

    async def owners(self) -> dict[str, Node]:
        """The node of each account."""
        return await self.mesh.owners([account.id for account in self.load.accounts])

    async def busiest(self) -> Node:
        """The node with most accounts."""
        names = Counter(node.name for node in (await self.owners()).values())
        return self.mesh.nodes[names.most_common(1)[0][0]]

    async def accounts_of(self, node: Node) -> list[account_pb2.Account]:
        owners = await self.owners()
        return [account for account in self.load.accounts if owners[account.id] is node]

    def reconnects(self) -> dict[str, int]:
        """New connections of each account since the load began; accounts without any are left out."""
        new = self.mesh.logins() - self._before
        return {a.id: new[a.phone[1:]] for a in self.load.accounts if a.phone[1:] in new}

    async def needless(self) -> dict[str, int]:
        """Connections that were made anew although the account's shard had not changed hands, by account."""
        new, now = self.reconnects(), await self.epochs()
        moves = {a.id: now[shard_of(a.id)] - self._epochs[shard_of(a.id)] for a in self.load.accounts}
        return {account: made - moves[account] for account, made in new.items() if made > moves[account]}

    async def moves(self) -> int:
        """How often any shard has changed hands since the load began."""
        return sum((await self.epochs()).values()) - sum(self._epochs.values())

    async def seizures(self) -> int:
        """How many of those moves took a shard from a holder that had not given it back."""
        return await count_seizures(self.mesh.database) - self._seizures

    async def assert_undisturbed(self) -> None:
        """Nobody was judged dead, and no connection ended, but for what nodes moved to balance their load."""
        assert await self.seizures() == 0
        assert await self.needless() == {}
        assert await self.moves() <= FOR_BALANCE

    async def epochs(self) -> dict[int, int]:
        """The epoch of each shard."""
        rows = await self.mesh.database.fetch("SELECT shard, epoch FROM shard_fence")
        return {row["shard"]: row["epoch"] for row in rows}

    async def let_pass(self, seconds: float) -> None:
        """Wait so long, in which the network must keep every account's connection."""
        before, until = self.mesh.logins(), time.monotonic() + seconds
        await eventually(lambda: time.monotonic() > until, seconds + 1, f"the passing of {seconds} s")
        assert self.mesh.logins() - before == {}

    async def until_ended(self, accounts: Collection[account_pb2.Account]) -> set[LedgerKind]:
        """Until their connections have ended that were there when the load began; in which ways they did."""
        connections = {self._before.live[account.phone[1:]] for account in accounts}
        await eventually(
            lambda: connections <= self.mesh.logins().ended.keys(), QUIET_SECONDS, "the end of connections"
        )
        ended = self.mesh.logins().ended
        return {ended[connection] for connection in connections}

    async def until_not_connected(self, accounts: Collection[account_pb2.Account]) -> None:
        """Until the mesh itself says that none of them is online."""
        caller = self.load.caller

        async def offline() -> bool:
            requests = [session_pb2.GetSessionRequest(account_id=account.id) for account in accounts]
            answers = [await caller(caller.sessions.GetSession, request) for request in requests]
            return all(one.session.state != session_pb2.SESSION_STATE_CONNECTED for one in answers)

        await eventually(offline, what="accounts that are not online")

    async def until_online(self) -> None:
        """Until the network has a live connection of every account."""
        phones = {account.phone[1:] for account in self.load.accounts}
        await eventually(
            lambda: phones <= self.mesh.logins().live.keys(), QUIET_SECONDS, "every account online"
        )

    async def _until_quiet(self) -> None:
        uuids = [decode(Prefix.ACCOUNT, account.id, "account") for account in self.load.accounts]

        async def quiet() -> bool:
            waiting = await self.mesh.database.fetchval(
                "SELECT (SELECT count(*) FROM outbox WHERE account = ANY ($1))"
                " + (SELECT count(*) FROM message"
                " WHERE account = ANY ($1) AND direction = $2 AND status <> $3)",
                uuids,
                message_pb2.DIRECTION_OUTBOUND,
                message_pb2.MESSAGE_STATUS_DELIVERED,
            )
            return bool(waiting == 0)

        await eventually(quiet, QUIET_SECONDS, "DELIVERED for every message, and an empty outbox")

    async def _until_told(self, accounts: list[str]) -> None:
        """The endpoint got every message event, by its id."""
        rows = await self.mesh.database.fetch(
            "SELECT id FROM event WHERE account = ANY ($1) AND type LIKE 'message.%'",
            [decode(Prefix.ACCOUNT, account, "account") for account in accounts],
        )
        wanted = {encode(Prefix.EVENT, row["id"]) for row in rows}
        await eventually(
            lambda: wanted <= self.receiver.received.events.keys(), QUIET_SECONDS, "a webhook for every event"
        )

    async def _until_clean(self) -> None:
        found: list[str] = []

        async def clean() -> bool:
            found[:] = await leftovers(self.mesh, self._descriptors)
            return not found

        try:
            await eventually(clean, CLEAN_SECONDS, "nothing left over")
        except AssertionError:
            raise AssertionError("\n".join(found)) from None


@asynccontextmanager
async def scene(
    *,
    nodes: int = 3,
    members: int = 1,
    accounts_per_node: int = 2,
    site: Site | None = None,
    environment: Mapping[str, str] | None = None,
    prepare: Prepare | None = None,
) -> AsyncIterator[Scene]:
    """A mesh, as `fault_mesh` has it, with paired accounts on every node. In the end nothing may be left."""
    async with (
        fault_mesh(nodes=nodes, members=members, site=site, environment=environment, prepare=prepare) as mesh,
        open_caller(mesh.router, mesh.admin_key) as admin,
        Receiver() as receiver,
    ):
        _, caller = await admin.new_tenant()
        receiver.secret = await caller.new_endpoint(receiver.url, "message.*")
        accounts = await _paired(mesh, caller, admin, accounts_per_node)
        yield Scene(mesh, admin, Load(caller, accounts), receiver, mesh.logins(), descriptors(mesh))
        await _stop_without_a_trace(mesh)


async def _paired(mesh: FaultMesh, caller: Caller, admin: Caller, per_node: int) -> list[account_pb2.Account]:
    """Accounts such that every node has `per_node` of them."""
    shares = {shard: key.node for shard, key in (await mesh.placement()).owners.items()}
    missing = Counter(dict.fromkeys(mesh.nodes, per_node))
    accounts = []
    for _ in count():
        account = await caller.new_account(send_limits=LIMITS)
        node = shares[shard_of(account.id)]
        if missing[node] > 0:
            missing[node] -= 1
            accounts.append(account)
        if not +missing:
            break
    await asyncio.gather(*(caller.pair(account, admin) for account in accounts))
    return accounts


async def _stop_without_a_trace(mesh: FaultMesh) -> None:
    """All parts drain, and nothing is left of them."""
    family = [one for part in mesh.all_parts() for one in part.family()]
    codes = await mesh.stop_parts()
    assert not any(codes.values()), f"{codes}\n{mesh.report()}"
    assert [one for one in family if one.is_running()] == []
    assert await leftovers_of_stopped(mesh) == []
