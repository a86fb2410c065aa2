"""Pairing an account, and watching its session, across connections that break and owners that change."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from mesh_client.errors import FailedPrecondition
from mesh_client.outgoing import checked_timeout, new_request_id
from mesh_client.resuming import resumed
from mesh_client.streams import Stream
from sessionmesh.v1 import session_pb2


def pair_request(account_id: str, phone: str, patience: float | None) -> session_pb2.PairRequest:
    """Pairs by a code for `phone`, or by QR if that is empty. Raises `InvalidArgument`."""
    request = session_pb2.PairRequest(account_id=account_id, request_id=new_request_id(), phone=phone)
    request.method = session_pb2.PAIR_METHOD_CODE if phone else session_pb2.PAIR_METHOD_QR
    seconds = checked_timeout(patience)
    if seconds is not None:
        request.timeout.FromNanoseconds(int(seconds * 1e9))
    return request


async def pairing(
    sessions: Any, request: session_pb2.PairRequest
) -> AsyncGenerator[session_pb2.PairResponse, None]:
    """The steps of one attempt, each once; the last is paired, timed_out or refused."""
    last = session_pb2.PairResponse()

    def begin() -> Stream:
        request.attempt_id = last.attempt_id
        stream: Stream = sessions.Pair(request)
        return stream

    try:
        async with aclosing(resumed(begin)) as steps:
            async for step in steps:
                if step != last:
                    last = step
                    yield step
    except FailedPrecondition as error:
        # The pairing succeeded while the stream was broken.
        if error.reason != "ALREADY_PAIRED" or not last.attempt_id:
            raise
        found = await sessions.GetSession(session_pb2.GetSessionRequest(account_id=request.account_id))
        yield session_pb2.PairResponse(
            attempt_id=last.attempt_id, paired=session_pb2.PairSuccess(session=found.session)
        )


async def watching(sessions: Any, account_id: str) -> AsyncGenerator[session_pb2.Session, None]:
    """The session now, and whenever it has changed."""
    last = session_pb2.Session()

    def begin() -> Stream:
        stream: Stream = sessions.WatchSession(session_pb2.WatchSessionRequest(account_id=account_id))
        return stream

    async with aclosing(resumed(begin)) as responses:
        async for response in responses:
            if response.session != last:
                last = response.session
                yield last
