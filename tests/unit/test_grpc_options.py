"""gRPC takes options that it does not know without a word, so their names are looked up in its library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.options import server_options
from mesh_core.settings import ServerSettings


def test_every_option_is_one_that_grpc_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, Any]] = [*server_options(ServerSettings())]
    monkeypatch.setattr(grpc.aio, "insecure_channel", lambda _address, options: given.extend(options))
    open_channel("127.0.0.1:1")
    [library] = (Path(grpc.__file__).parent / "_cython").glob("cygrpc*.so")
    known = library.read_bytes()
    assert len(given) > 10
    assert [name for name, _ in given if name.encode() not in known] == []


def test_no_three_connections_can_open_so_many_calls_that_others_are_cancelled() -> None:
    options = dict(server_options(ServerSettings()))
    streams = options["grpc.max_concurrent_streams"]
    assert options["grpc.server.max_pending_requests"] > 3 * streams
    assert (
        options["grpc.server.max_pending_requests_hard_limit"] > options["grpc.server.max_pending_requests"]
    )
