"""The metrics page is there for Prometheus, whoever else is connected, and for probes."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from mesh_cli import health
from mesh_cli.embedded import free_port
from mesh_core.telemetry import metrics_page, page_server
from mesh_core.telemetry.metrics_page import MetricsPage, serve_metrics
from tests.support.eventually import wait_until


class Part:
    """What a part says of itself: why it is not ready."""

    def __init__(self) -> None:
        self.reason = ""

        self.start_reason = ""

    def unready(self) -> str:
        return self.reason

    def unstarted(self) -> str:
        return self.start_reason


@pytest.fixture
def part() -> Part:
    return Part()


@pytest.fixture
def page(part: Part) -> Iterator[MetricsPage]:
    made = serve_metrics("127.0.0.1:0", part.unready, part.unstarted)
    yield made
    made.close()


def connect(page: MetricsPage) -> socket.socket:
    return socket.create_connection(("127.0.0.1", page.port), timeout=10)


def read_page(page: MetricsPage) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics", timeout=10) as answer:
        return bytes(answer.read())


def probe(page: MetricsPage, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize("said", [b"", b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
def test_a_client_that_does_not_finish_its_request_is_sent_away(
    monkeypatch: pytest.MonkeyPatch, page: MetricsPage, said: bytes
) -> None:
    monkeypatch.setattr(page_server._Handler, "timeout", 0.2)
    with connect(page) as slow:
        slow.sendall(said)
        assert slow.recv(1) == b""  # fails after 10 s


def test_the_oldest_of_too_many_connections_makes_room(page: MetricsPage) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(page)) for _ in range(page_server.MAX_CONNECTIONS + 5)]
        wait_until(lambda: sum(map(ended, silent)) == 5, what="the end of five")
        assert b"process_cpu_seconds_total" in read_page(page)
        assert all(ended(one) for one in silent[:6])
        assert not any(ended(one) for one in silent[6:])


def test_connections_that_were_served_take_no_room(page: MetricsPage) -> None:
    with connect(page) as waiting:
        for _ in range(2 * page_server.MAX_CONNECTIONS):
            read_page(page)
        assert not ended(waiting)


def test_a_part_that_is_not_ready_says_why_and_lives(page: MetricsPage, part: Part) -> None:
    assert probe(page, "/readyz") == (200, "ok\n")
    part.reason = "Postgres does not answer"
    assert probe(page, "/readyz") == (503, "Postgres does not answer\n")
    assert probe(page, "/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    ("late", "status", "says"),
    [(9.0, 200, "ok"), (12.0, 503, "the event loop has not turned for 12 s")],
    ids=["busy", "stalled"],
)
async def test_a_part_lives_while_its_event_loop_turns(
    page: MetricsPage,
    monkeypatch: pytest.MonkeyPatch,
    late: float,
    status: int,
    says: str,
) -> None:
    metrics_page.watch_loop(asyncio.get_running_loop())
    monkeypatch.setattr(metrics_page, "perf_counter", lambda: metrics_page._due + late)
    assert await asyncio.to_thread(probe, page, "/healthz") == (status, f"{says}\n")


def test_mesh_health_asks_beside_the_metrics(
    page: MetricsPage, part: Part, capsys: pytest.CaptureFixture[str]
) -> None:
    """Callers' connections have no say there."""
    here = health.page_here(f"0.0.0.0:{page.port}")
    part.reason = "Postgres does not answer"
    assert [health.probe(here, what) for what in ("readiness", "startup", "liveness")] == [1, 0, 0]
    assert capsys.readouterr().out.splitlines()[0] == f"{here} NOT_SERVING: Postgres does not answer"
    part.reason, part.start_reason = "", "it starts"
    assert [health.probe(here, what) for what in ("readiness", "startup", "liveness")] == [0, 1, 0]


def test_mesh_health_tells_who_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    here = f"127.0.0.1:{free_port()}"
    assert health.probe(here) == health.EXIT_NOT_SERVING
    assert "does not answer" in capsys.readouterr().out


def test_mesh_health_knows_no_page_at_a_port_that_is_found_at_the_start() -> None:
    assert health.page_here("127.0.0.1:0") == ""
    assert health.page_here("[::]:9464") == "[::1]:9464"
