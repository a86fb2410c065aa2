"""Open streams are judged again: a key that is revoked, or a tenant that is suspended, reads on nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from mesh_core import errors
from mesh_core.rpc.auth import Authenticator, check_scope
from mesh_core.rpc.server.parsing import Context
from sessionmesh.v1.authorization_pb2 import Scope

logger = structlog.get_logger(__name__)

JUDGE_SECONDS = 5.0
"""How often. A refused key reads on for so long, and for as long as an authenticator's answer is good."""


@dataclass(slots=True, eq=False)
class _Stream:
    task: asyncio.Task[Any]
    authorization: str
    tenant: str
    scope: Scope.ValueType
    refused: errors.MeshError | None = None


class OpenStreams:
    """The open streams of one server. At rest a stream holds no timer: one judges all, a key at a time."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._streams: set[_Stream] = set()
        self._judging: asyncio.Task[None] | None = None

    @contextmanager
    def judged(self, context: Context, scope: Scope.ValueType) -> Iterator[None]:
        """Around the stream that this task serves: raises why its key is no longer good."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - inside a coroutine
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        stream = _Stream(task, metadata.get("authorization", ""), metadata.get("x-mesh-tenant", ""), scope)
        self._streams.add(stream)
        if self._judging is None:
            self._judging = asyncio.create_task(self._judge_all(), name="judge open streams")
        try:
            yield
        except asyncio.CancelledError:
            if stream.refused is None:
                raise
            task.uncancel()
            raise stream.refused from None
        finally:
            self._streams.discard(stream)

    async def close(self) -> None:
        """Judge no more."""
        if self._judging is not None:
            self._judging.cancel()
            await asyncio.wait([self._judging])

    async def _judge_all(self) -> None:
        """For as long as there are streams."""
        try:
            while self._streams:
                await asyncio.sleep(JUDGE_SECONDS)
                by_key: dict[tuple[str, str], list[_Stream]] = {}
                for stream in self._streams:
                    by_key.setdefault((stream.authorization, stream.tenant), []).append(stream)
                keys = [*by_key]
                for at in range(0, len(keys), _AT_ONCE):
                    await asyncio.gather(*(self._judge(key, by_key[key]) for key in keys[at : at + _AT_ONCE]))
        finally:
            self._judging = None

    async def _judge(self, key: tuple[str, str], streams: list[_Stream]) -> None:
        """Never raises: what cannot be judged now is next time."""
        try:
            identity = self._authenticator.recall(*key) or await self._authenticator.authenticate(*key)
        except (errors.Unauthenticated, errors.PermissionDenied) as refused:
            for stream in streams:
                _end(stream, refused)
            return
        except Exception as error:
            logger.warning("an open stream cannot be judged", error=repr(error))
            return
        for stream in streams:
            try:
                check_scope(identity, stream.scope)
            except errors.PermissionDenied as refused:
                _end(stream, refused)


def _end(stream: _Stream, refused: errors.MeshError) -> None:
    if not stream.task.done():
        stream.refused = refused
        stream.task.cancel()


_AT_ONCE = 8
"""Keys that are looked up at the same time."""
