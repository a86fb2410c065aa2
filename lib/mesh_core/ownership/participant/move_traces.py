"""A trace for each move of a shard that has accounts, by all who take part in it: none tells the others.

The trace's id follows from the shard and the epoch that its next tenure will have, which is one more than the
last. Its root is recorded by the node that takes the shard, and links to the writing of the table that gave
it away; the node that hands it off records its part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mesh_core.ownership.keys import ClusterKeys, NodeState
from mesh_core.ownership.participant.keeper import Tenure
from mesh_core.ownership.view.mirror import ClusterMirror
from mesh_core.telemetry import tracing


class MoveTraces:
    """Those of one participant."""

    def __init__(self, keys: ClusterKeys, mirror: ClusterMirror, node_id: str) -> None:
        self._root = keys.root.decode()
        self._mirror = mirror
        self._about: dict[str, tracing.Attribute] = {"mesh.node.id": node_id}

    def taken(self, tenures: Iterable[Tenure]) -> dict[int, str]:
        """The traceparents of the moves that brought these shards here, of those that are recorded."""
        found = {tenure.shard: self._move(tenure.shard, tenure.epoch) for tenure in tenures}
        return {shard: trace for shard, trace in found.items() if tracing.is_sampled(trace)}

    def record_taken(
        self,
        tenures: Iterable[Tenure],
        traces: Mapping[int, str],
        began: int,
        accounts: Callable[[int], int],
    ) -> None:
        """These shards are here, with all their accounts, so many in each, and run since `began` (nanoseconds
        since the epoch).
        """
        for tenure in tenures:
            gone = self._mirror.displaced.pop(tenure.shard, None)
            trace = traces.get(tenure.shard)
            if trace is None or not accounts(tenure.shard):
                continue
            about = {**self._about, "mesh.shard": tenure.shard, "mesh.shard.epoch": tenure.epoch}
            if gone is not None:
                about |= {"mesh.shard.from": gone.node, "mesh.shard.reason": self._reason(gone.node)}
            fence = tracing.start_span("mesh.ownership.fence", parent=trace, start=tenure.claimed_at)
            fence.end(tenure.taken_at)
            tracing.start_span("mesh.ownership.load", parent=trace, start=began).end()
            tracing.start_span(
                "mesh.ownership.move",
                itself=trace,
                attributes=about,
                links=() if gone is None else [self._plan(gone.table)],
                start=tenure.claimed_at if gone is None else min(gone.seen_at, tenure.claimed_at),
            ).end()

    def record_released(self, tenures: Iterable[Tenure], began: int) -> None:
        """This node has handed these shards off, which had accounts, since `began`."""
        for tenure in tenures:
            tracing.start_span(
                "mesh.ownership.release",
                parent=self._move(tenure.shard, tenure.epoch + 1),
                attributes={**self._about, "mesh.shard": tenure.shard, "mesh.shard.epoch": tenure.epoch},
                start=began,
            ).end()

    def record_plan(self, before: int, moved: Mapping[int, str], began: int) -> None:
        """This node wrote a table in place of the one of revision `before`: shards left these nodes."""
        reasons = {f"{node}: {self._reason(node)}" for node in moved.values()}
        tracing.start_span(
            "mesh.ownership.plan",
            itself=self._plan(before),
            attributes={
                **self._about,
                "mesh.shards.moved": len(moved),
                "mesh.shards.reason": ", ".join(sorted(reasons)),
            },
            start=began,
        ).end()

    def _move(self, shard: int, epoch: int) -> str:
        return tracing.found(f"{self._root}{shard}/{epoch}")

    def _plan(self, before: int) -> str:
        """Recorded whatever the ratio, as one of them is behind many moves."""
        return tracing.found(f"{self._root}table/{before}", always=True)

    def _reason(self, node_id: str) -> str:
        """Why shards leave a node."""
        node = self._mirror.nodes.get(node_id)
        if node is None:
            return "gone"
        return "balance" if node.state is NodeState.ACTIVE else node.state.value.lower()
