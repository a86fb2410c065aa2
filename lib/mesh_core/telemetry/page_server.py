"""The HTTP server of the metrics page and of health checks. Clients that are slow, or many that say nothing,
stop nobody else.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app

READ_SECONDS = 5.0
"""Seconds that a client may take for each piece of its request, and for reading the whole page."""
MAX_CONNECTIONS = 16
"""Connections at a time, each with a thread of its own. One more, and the oldest is closed."""


class PageServer(ThreadingMixIn, WSGIServer):
    """Answers from daemon threads: each path of `checks` with 200, or 503 and the reason that its check
    returns, every other one with the page. Raises `OSError` when the address is taken.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, checks: Mapping[str, Callable[[], str]]) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._lock = Lock()
        self._open: dict[Any, None] = {}
        super().__init__((host, port), _Handler)
        self.set_app(_application(checks))
        Thread(target=self.serve_forever, name="metrics page", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the connection to a thread, in the place of the oldest one when there are too many."""
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MAX_CONNECTIONS else None
            if oldest is not None:
                del self._open[oldest]
                _shut(oldest)  # its thread notices, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection ends."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is slow or gone is nobody's failure."""


class _Handler(WSGIRequestHandler):
    timeout = READ_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Not in our log."""


def _application(checks: Mapping[str, Callable[[], str]]) -> WSGIApplication:
    page: WSGIApplication = make_wsgi_app()

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        check = checks.get(environment["PATH_INFO"])
        if check is None:
            return page(environment, start)
        reason = check()
        status = "503 Service Unavailable" if reason else "200 OK"
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{reason or 'ok'}\n".encode()]

    return answer


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has just ended by itself
        connection.shutdown(socket.SHUT_RDWR)
