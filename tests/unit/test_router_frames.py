"""Cutting frames of SendMessages without decoding the messages."""

from __future__ import annotations

from contextlib import suppress

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core import ids
from mesh_core.errors import InvalidArgument, NotOwner
from mesh_core.ids import Prefix, new_id
from mesh_core.rpc.server.status import from_details
from mesh_router.proxy.frames import failed, items, joined, refusal
from sessionmesh.v1 import content_pb2
from sessionmesh.v1.message_pb2 import (
    Message,
    SendMessageRequest,
    SendMessagesRequest,
    SendMessagesResponse,
    SendResult,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
account_ids = st.one_of(
    st.binary(min_size=16, max_size=16).map(lambda raw: ids.encode(Prefix.ACCOUNT, UUID(raw))), texts
)
requests = st.builds(
    lambda account, request, body: SendMessageRequest(
        account_id=account,
        request_id=request,
        content=content_pb2.Content(text=content_pb2.TextContent(body=body)),
    ),
    account_ids,
    texts,
    texts,
)


@given(st.lists(requests, max_size=5))
def test_cutting_a_frame_names_each_item_and_joining_restores_it(messages: list[SendMessageRequest]) -> None:
    raw = SendMessagesRequest(messages=messages).SerializeToString()
    cut = list(items(raw))
    assert [name for name, _ in cut] == [(message.account_id, message.request_id) for message in messages]
    assert joined(entry for _, entry in cut) == raw
    for (_, entry), message in zip(cut, messages, strict=True):
        assert SendMessagesRequest.FromString(entry).messages[0] == message


@given(account=account_ids, request=texts)
def test_results_are_cut_like_requests(account: str, request: str) -> None:
    result = SendResult(account_id=account, request_id=request, message=Message(id="msg_1"))
    [(name, entry)] = items(SendMessagesResponse(results=[result]).SerializeToString())
    assert name == (account, request)
    assert refusal(entry) == b""


def test_a_refusal_carries_its_details() -> None:
    [(name, entry)] = items(failed(("acc_1", "r"), NotOwner("n1", 3)))
    assert name == ("acc_1", "r")
    error = from_details(refusal(entry))
    assert isinstance(error, NotOwner)
    assert error.owner == "n1"


@given(request=texts, size=st.integers(0, 20_000), refused=st.booleans())
def test_refusals_and_acceptances_of_any_size_are_told_apart(request: str, size: int, refused: bool) -> None:
    account = new_id(Prefix.ACCOUNT)
    result = SendResult(account_id=account, request_id=request)
    if refused:
        result.error.status = b"\x08\x01" + b"x" * size
    else:
        result.message.external_id = "x" * size
    [(name, entry)] = items(SendMessagesResponse(results=[result]).SerializeToString())
    assert name == (account, request)
    assert refusal(entry) == result.error.status


@given(st.lists(requests, min_size=1, max_size=2), st.data())
def test_a_cut_off_frame_is_refused_or_shorter(
    messages: list[SendMessageRequest], data: st.DataObject
) -> None:
    raw = SendMessagesRequest(messages=messages).SerializeToString()
    part = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        cut = list(items(part))
    except InvalidArgument:
        return
    assert len(cut) < len(messages)


@given(st.binary(max_size=60))
def test_any_bytes_are_cut_or_refused(raw: bytes) -> None:
    with suppress(InvalidArgument):
        assert joined(entry for _, entry in items(raw)) == raw


def test_another_field_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        list(items(b"\x12\x00"))
