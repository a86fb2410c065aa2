"""Levels of logs that are set in etcd: who follows which, and how they end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh_core.errors import ResourceExhausted
from mesh_core.etcd import Etcd
from mesh_core.process import log_levels, logs
from mesh_core.process.log_levels import LevelSet, follow_log_levels, set_log_level
from mesh_core.tasks import Supervisor
from tests.support.eventually import eventually
from tests.support.relay import Relay, relay_to
from tests.support.servers import patient_etcd_at

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEBUG, INFO, ERROR = 10, 20, 40


class Node:
    """A session-node `node-1`: what its loggers were told to take, from the first time to the last."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.told: list[dict[str, int]] = []

    async def until(self, *told: dict[str, int]) -> None:
        """Until it was told this last of all, without repetitions."""

        def changes() -> list[dict[str, int]]:
            return [one for at, one in enumerate(self.told) if not at or one != self.told[at - 1]]

        await eventually(lambda: changes()[-len(told) :] == [*told], what=f"{told}, not {changes()}")


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: str) -> AsyncIterator[Etcd]:
    opened = patient_etcd_at(etcd)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def node(etcd: str, cluster: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    async with (
        relay_to(etcd) as relay,
        Supervisor(lambda _name, error: pytest.fail(repr(error))) as supervisor,
    ):
        made, own = Node(relay), Etcd.at(relay.url)
        monkeypatch.setattr(logs, "replace_levels", made.told.append)
        supervisor.start("log levels", follow_log_levels(own, cluster, "session-node", "node-1"))
        await eventually(lambda: made.told)
        yield made
    await own.close()


async def say(
    client: Etcd, cluster: str, part: str, level: str, logger: str = "", seconds: float = 60
) -> None:
    wanted = LevelSet(part=part, level=level, end=time.time() + seconds, logger=logger)
    await set_log_level(client, cluster, wanted, 60)


async def test_what_is_said_of_a_node_counts_before_what_is_said_of_all(
    client: Etcd, cluster: str, node: Node
) -> None:
    await say(client, cluster, "node-1", "debug")
    await say(client, cluster, "session-node", "error")
    await say(client, cluster, "all", "error", "mesh_core.etcd")
    await node.until({"": DEBUG, "mesh_core.etcd": ERROR})
    await say(client, cluster, "node-1", "info")
    await node.until({"": INFO, "mesh_core.etcd": ERROR})


async def test_what_is_said_of_others_or_makes_no_sense_changes_nothing(
    client: Etcd, cluster: str, node: Node
) -> None:
    for part in ("node-2", "router", "media", "webhook"):
        await say(client, cluster, part, "debug")
    await client.put(f"/{cluster}/log_levels/all/".encode(), b"nonsense")
    await say(client, cluster, "all", "loud", "one")
    await say(client, cluster, "all", "debug", "two")
    await node.until({}, {"two": DEBUG})


async def test_there_are_only_so_many_at_a_time(client: Etcd, cluster: str) -> None:
    for number in range(log_levels.MOST):
        await say(client, cluster, "all", "info", f"one{number}")
    await say(client, cluster, "all", "debug", "one1")
    with pytest.raises(ResourceExhausted, match="levels of logs are set"):
        await say(client, cluster, "all", "debug", "another")


async def test_a_level_ends_by_itself_in_a_part_that_is_cut_off_from_etcd(
    client: Etcd, cluster: str, node: Node
) -> None:
    await say(client, cluster, "all", "debug", seconds=1.5)
    await node.until({}, {"": DEBUG})
    await node.relay.cut()
    await node.until({"": DEBUG}, {})
