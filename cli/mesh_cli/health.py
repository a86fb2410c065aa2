"""`mesh-health [--wait SECONDS] [--of WHAT] [ADDRESS]`: whether a part serves.

For the health checks of containers, which run it every few seconds: it imports no command. Without ADDRESS
it asks the part that has the same settings, beside its metrics, where callers have no say: strangers who
take all connections of a router must not have it killed as unhealthy. At ADDRESS it asks the gRPC health
service, with the settings' TLS. With `--wait` it asks until the part serves. WHAT is `readiness` (default:
whether calls should go there), `liveness` (whether its event loop turns) or `startup` (whether it was ready
once). Exit 0: it serves; 1: it does not, or does not answer; 64: bad settings. Each answer is a line, with
the reason where it does not serve.
"""

from __future__ import annotations

import argparse
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import grpc
import msgspec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_core.rpc.health import LIVENESS, READINESS, REASON_KEY, STARTUP
from mesh_core.rpc.tls import ChannelTls
from mesh_core.settings import ServerSettings, load
from mesh_core.visible_text import visible_line

SECONDS = 4.0
PAUSE_SECONDS = 0.5
EXIT_NOT_SERVING = 1
MOST_BYTES = 1024
_PATHS = {READINESS: "/readyz", LIVENESS: "/healthz", STARTUP: "/startupz"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What it reads."""

    server: ServerSettings


def main() -> None:
    """The console script."""
    parser = argparse.ArgumentParser(prog="mesh-health", description="Whether a part of the mesh serves.")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="ask until it serves")
    parser.add_argument("--of", default=READINESS, choices=(READINESS, LIVENESS, STARTUP), help="what to ask")
    parser.add_argument("address", nargs="?", help="host:port; else that of MESH_SERVER_ADVERTISE or _LISTEN")
    options = parser.parse_args()
    server = load(Settings).server
    address, tls = options.address or server.advertise or server.listen, ChannelTls.of(server)
    page = "" if options.address else page_here(server.metrics_listen)
    until = time.monotonic() + options.wait
    while code := probe(page, options.of) if page else check(address, tls, options.of):
        if time.monotonic() >= until:
            break
        time.sleep(PAUSE_SECONDS)
    sys.exit(code)


def page_here(listen: str) -> str:
    """Where a part of this machine that has its metrics at `listen` answers; "" where that is not known."""
    host, _, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"{host}:{port}" if int(port) else ""


def probe(page: str, service: str = READINESS) -> int:
    """Ask once beside the metrics, and print the answer; the exit code."""
    connection = HTTPConnection(page, timeout=SECONDS)
    try:
        connection.request("GET", _PATHS[service])
        answer = connection.getresponse()
        said = visible_line(answer.read(MOST_BYTES).decode(errors="replace").strip())
    except (OSError, HTTPException) as error:
        print(f"{page} does not answer: {error!r}")
        return EXIT_NOT_SERVING
    finally:
        connection.close()
    serving = answer.status == HTTPStatus.OK
    print(f"{page} {'SERVING' if serving else f'NOT_SERVING: {said}'}")
    return 0 if serving else EXIT_NOT_SERVING


def check(address: str, tls: ChannelTls | None, service: str = READINESS) -> int:
    """Ask once, and print the answer; the exit code."""
    with _open(address, tls) as channel:
        try:
            answer, call = health_pb2_grpc.HealthStub(channel).Check.with_call(
                health_pb2.HealthCheckRequest(service=service), timeout=SECONDS
            )
        except grpc.RpcError as error:
            print(f"{address} {error.code().name}: {visible_line(error.details() or '')}")
            return EXIT_NOT_SERVING
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    reason = dict(call.trailing_metadata()).get(REASON_KEY)
    print(f"{address} {status}" + (f": {visible_line(reason)}" if reason else ""))
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else EXIT_NOT_SERVING


def _open(address: str, tls: ChannelTls | None) -> grpc.Channel:
    options = (("grpc.enable_http_proxy", 0),)
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate), options=options
    )


if __name__ == "__main__":
    main()
