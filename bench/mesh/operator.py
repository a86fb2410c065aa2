"""What an operator asks of a running mesh, and conditions to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from types import TracebackType
from typing import Self

import asyncpg
import grpc

from bench.mesh.connections import KINDS, Connections
from bench.mesh.running import RunningMesh
from mesh_core.etcd import Etcd, EtcdUnavailable
from mesh_core.ids import shard_of
from mesh_core.ownership.keys import ClusterKeys
from mesh_core.ownership.planning.loads import weight_of
from mesh_core.ownership.planning.table import MOVE_BUDGET, Situation, read_situation
from mesh_core.rpc.channels import open_channel
from mesh_core.settings import ClusterSettings
from sessionmesh.admin.v1 import fleet_pb2, fleet_pb2_grpc
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import job_pb2, job_pb2_grpc, message_pb2

MESSAGE_BYTES = 64 * 1024 * 1024
"""Of one gRPC message, which the parts must take, too: the callers' log goes to the network whole."""
SETTLED_SECONDS = 120.0
DELIVERED_SECONDS = 60.0
_POLL_SECONDS = 0.5
_TIMEOUT = 30.0


class NotMeasured(Exception):
    """A condition never came, so there is nothing to tell."""


class Operator:
    """Calls with the administrator's key, and a look into Postgres."""

    def __init__(self, mesh: RunningMesh, accounts: Collection[str]) -> None:
        self._accounts = accounts
        self._database_url = mesh.database_url
        self._metadata = (("authorization", f"Bearer {mesh.file.admin_key}"),)
        self._channel = open_channel(mesh.file.address, max_message_bytes=MESSAGE_BYTES)
        self._fleet = fleet_pb2_grpc.FleetServiceStub(self._channel)
        self._etcd = mesh.file.servers["MESH_ETCD_ENDPOINTS"].split(",")
        self._keys = ClusterKeys(ClusterSettings().name)
        self._jobs = job_pb2_grpc.JobServiceStub(self._channel)
        self._network = simulator_pb2_grpc.SimulatorServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def accounts_of(self, node: str) -> list[str]:
        """The accounts whose shards the node owns."""
        owned = {shard.shard for shard in (await self._placement()).shards if shard.node_id == node}
        return [account for account in self._accounts if shard_of(account) in owned]

    async def drain(self, node: str, replacement: str = "") -> None:
        """Move all that the node owns; until the job has ended. Raises `NotMeasured` if it failed."""
        request = fleet_pb2.DrainNodeRequest(
            request_id=f"drain-{node}-{replacement}", node_id=node, replacement_node_id=replacement
        )
        started = await self._fleet.DrainNode(request, metadata=self._metadata, timeout=_TIMEOUT)
        watch = job_pb2.WatchJobRequest(job_id=started.job.id)
        job = started.job
        async for frame in self._jobs.WatchJob(watch, metadata=self._metadata, timeout=SETTLED_SECONDS):
            job = frame.job
        if job.state != job_pb2.JOB_STATE_SUCCEEDED:
            raise NotMeasured(f"the drain of {node} ended {job_pb2.JobState.Name(job.state)}: {job.error}")

    async def undrain(self, node: str) -> None:
        """Let it own accounts again."""
        request = fleet_pb2.UndrainNodeRequest(node_id=node)
        await self._fleet.UndrainNode(request, metadata=self._metadata, timeout=_TIMEOUT)

    async def until_registered(self, node: str) -> None:
        """Until the fleet knows the node, which is a little later than it serves."""

        async def missing() -> str:
            listed = await self._fleet.ListNodes(
                fleet_pb2.ListNodesRequest(page_size=1000), metadata=self._metadata, timeout=_TIMEOUT
            )
            return "" if any(known.id == node for known in listed.nodes) else "it is not there"

        await self._until(missing, f"{node} among the nodes")

    async def until_connected(self, nodes: Collection[str]) -> None:
        """Until these nodes own all shards as they are assigned, and every account is connected."""
        await self._until(lambda: self._unconnected(nodes), "every shard owned, and every account connected")

    async def until_settled(self, nodes: Collection[str]) -> None:
        """Until these nodes own all shards, nothing is left to move, and every account is connected."""
        await self._until(lambda: self._unsettled(nodes), "settled shares, and every account connected")

    async def until_delivered(self) -> int:
        """Until every outbound message is DELIVERED; how many are not when that takes too long."""
        waiting = 0

        async def undelivered() -> str:
            nonlocal waiting
            waiting = await self._query(_UNDELIVERED, message_pb2.MESSAGE_STATUS_DELIVERED)
            return f"{waiting} are not" if waiting else ""

        with contextlib.suppress(NotMeasured):
            await self._until(undelivered, "every message delivered", DELIVERED_SECONDS)
        return waiting

    async def epochs(self) -> int:
        """How often any shard has been taken, all together."""
        return await self._query("SELECT sum(epoch)::bigint FROM shard_fence")

    async def connections(self) -> Connections:
        """From the network's ledger up to now."""
        return Connections([record async for record in self._ledger()])

    async def verdict(self, calls: list[simulator_pb2.CallerRecord]) -> simulator_pb2.GetVerdictResponse:
        """The network's, over all that happened and what the callers were told."""
        request = simulator_pb2.GetVerdictRequest(calls=calls)
        verdict: simulator_pb2.GetVerdictResponse = await self._network.GetVerdict(
            request, metadata=self._metadata, timeout=SETTLED_SECONDS
        )
        return verdict

    async def stats(self) -> simulator_pb2.GetNetworkStatsResponse:
        """The network's."""
        stats: simulator_pb2.GetNetworkStatsResponse = await self._network.GetNetworkStats(
            simulator_pb2.GetNetworkStatsRequest(), metadata=self._metadata, timeout=_TIMEOUT
        )
        return stats

    async def until_logins(self, number: int) -> None:
        """Until the network has seen so many since it began."""

        async def missing() -> str:
            seen = (await self.stats()).logins
            return f"{seen} of {number}" if seen < number else ""

        await self._until(missing, "logins")

    async def until_received(self) -> None:
        """Until all that was written to accounts is acknowledged; not longer than `DELIVERED_SECONDS`."""

        async def missing() -> str:
            stats = await self.stats()
            waiting = stats.inbound - stats.inbound_acked
            return f"{waiting} are not" if waiting > 0 else ""

        with contextlib.suppress(NotMeasured):
            await self._until(missing, "every inbound message acknowledged", DELIVERED_SECONDS)

    async def answer(self, text: str) -> None:
        """From now on people answer every message with this text, or, when it is empty, no more."""
        behaviour = simulator_pb2.NetworkBehaviour(auto_reply=text)
        request = simulator_pb2.SetBehaviourRequest(behaviour=behaviour)
        await self._network.SetBehaviour(request, metadata=self._metadata, timeout=_TIMEOUT)

    async def inject(self, kind: simulator_pb2.FaultKind.ValueType) -> str:
        """Something goes wrong with the network, for every account; the fault's id."""
        request = simulator_pb2.InjectFaultRequest(kind=kind)
        return str((await self._network.InjectFault(request, metadata=self._metadata)).fault_id)

    async def clear(self, fault: str) -> None:
        """It is over."""
        request = simulator_pb2.ClearFaultsRequest(fault_id=fault)
        await self._network.ClearFaults(request, metadata=self._metadata, timeout=_TIMEOUT)

    async def accept_no_pairings(self) -> None:
        """From now on nobody picks up a phone."""
        request = simulator_pb2.SetNetworkRequest()
        await self._network.SetNetwork(request, metadata=self._metadata, timeout=_TIMEOUT)

    async def _ledger(self) -> AsyncIterator[simulator_pb2.LedgerRecord]:
        request = simulator_pb2.ExportLedgerRequest()
        async for frame in self._network.ExportLedger(request, metadata=self._metadata, timeout=_TIMEOUT * 4):
            for record in frame.records:
                if record.kind in KINDS:
                    yield record

    async def _unconnected(self, nodes: Collection[str]) -> str:
        stats = await self.stats()
        if stats.connected < len(self._accounts):
            return f"{stats.connected} of {len(self._accounts)} accounts are connected"
        placement = await self._placement()
        if placement.unowned:
            return f"{placement.unowned} shards are unowned"
        if moving := sum(shard.node_id != shard.assigned_node_id for shard in placement.shards):
            return f"{moving} shards are on their way"
        owners = {shard.node_id for shard in placement.shards}
        return "" if owners == set(nodes) else f"{', '.join(sorted(owners))} own shards"

    async def _unsettled(self, nodes: Collection[str]) -> str:
        if missing := await self._unconnected(nodes):
            return missing
        placement = await self._placement()
        situation = await self._situation()
        # Nodes tell of their accounts once a minute: what they will tell must not make shards move, either.
        told = tuple(weight_of(shard.accounts, 0) for shard in placement.shards)
        for known in (situation, replace(situation, weights=told)):
            wish = known.plan(budget=MOVE_BUDGET, may_drop_missing=True)
            if known.differs_from(wish):
                return f"shares have yet to be balanced, {dict(Counter(situation.placement))} as it is"
        return ""

    async def _placement(self) -> fleet_pb2.GetPlacementResponse:
        placement: fleet_pb2.GetPlacementResponse = await self._fleet.GetPlacement(
            fleet_pb2.GetPlacementRequest(), metadata=self._metadata, timeout=_TIMEOUT
        )
        return placement

    async def _situation(self) -> Situation:
        etcd = Etcd.at(*self._etcd)
        try:
            return await read_situation(etcd, self._keys)
        finally:
            await etcd.close()

    async def _query(self, query: str, *arguments: object) -> int:
        database: asyncpg.Connection = await asyncpg.connect(self._database_url)
        try:
            return int(await database.fetchval(query, *arguments))
        finally:
            await database.close()

    async def _until(
        self, missing: Callable[[], Awaitable[str]], what: str, seconds: float = SETTLED_SECONDS
    ) -> None:
        """Until a look finds nothing missing; one that fails is repeated."""
        until, last = time.monotonic() + seconds, ""
        while time.monotonic() < until:
            try:
                last = await missing()
            except (grpc.RpcError, asyncpg.PostgresError, EtcdUnavailable, OSError) as error:
                last = f"the last look failed: {error}"
            if not last:
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise NotMeasured(f"waited {seconds:.0f} s in vain for {what}: {last}")


_UNDELIVERED = (
    f"SELECT count(*) FROM message WHERE direction = {message_pb2.DIRECTION_OUTBOUND} AND status <> $1"
)
