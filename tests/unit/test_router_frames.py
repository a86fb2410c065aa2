"""Cutting frames of SendMessages without decoding the messages."""

from __future__ import annotations

from contextlib import suppress

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core import ids
from mesh_core.errors import InvalidArgument, InvalidField, NotOwner
from mesh_core.ids import Prefix
from mesh_core.rpc.server.status import from_details
from mesh_router.proxy.frames import Result, failed, items, joined, results
from sessionmesh.v1 import content_pb2
from sessionmesh.v1.message_pb2 import (
    Message,
    SendMessageRequest,
    SendMessagesRequest,
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
    cut = items(raw)
    assert [name for name, _ in cut] == [name_of(message) for message in messages]
    assert [SendMessageRequest.FromString(item) for _, item in cut] == messages
    assert joined(item for _, item in cut) == raw


@given(requests.filter(lambda request: request.account_id), texts)
def test_an_item_that_names_two_accounts_is_refused(request: SendMessageRequest, other: str) -> None:
    for twice in (
        request.SerializeToString() + account_field(other),
        account_field(other) + request.SerializeToString(),
    ):
        with pytest.raises(InvalidField, match="account_id"):
            items(joined([SendMessageRequest(account_id="acc_1").SerializeToString(), twice]))


def account_field(account_id: str) -> bytes:
    """Field 1 as it is on the wire; of an empty text, too, which no generated code writes."""
    text = account_id.encode()
    return bytes([0x0A]) + encoded_length(len(text)) + text


def encoded_length(length: int) -> bytes:
    return bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])


@given(account=account_ids, request=texts, size=st.integers(0, 20_000))
def test_a_result_names_its_item_and_is_kept_as_it_is(account: str, request: str, size: int) -> None:
    result = SendResult(account_id=account, request_id=request, message=Message(external_id="x" * size))
    raw = result.SerializeToString()
    assert results(joined([raw])) == [Result((account, request.encode()), b"", raw)]


def test_a_refusal_carries_its_details() -> None:
    raw = failed(("acc_1", b"r"), NotOwner("n1", 3))
    [result] = results(joined([raw]))
    assert result.name == ("acc_1", b"r")
    error = from_details(result.refusal)
    assert isinstance(error, NotOwner)
    assert error.owner == "n1"
    assert SendResult.FromString(raw).error.SerializeToString() == result.refusal


@given(st.lists(requests, min_size=1, max_size=2), st.data())
def test_a_cut_off_frame_is_refused_or_shorter(
    messages: list[SendMessageRequest], data: st.DataObject
) -> None:
    raw = SendMessagesRequest(messages=messages).SerializeToString()
    part = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        cut = items(part)
    except InvalidArgument:
        return
    assert len(cut) < len(messages)


@given(st.binary(max_size=60))
def test_any_bytes_are_cut_or_refused(raw: bytes) -> None:
    with suppress(InvalidArgument):
        items(raw)


def name_of(message: SendMessageRequest) -> tuple[str, bytes]:
    return message.account_id, message.request_id.encode()
