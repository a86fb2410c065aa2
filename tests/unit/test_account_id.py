"""Reading the account's id out of a serialised request."""

from __future__ import annotations

from contextlib import suppress

import pytest
from asyncpg.pgproto.pgproto import UUID
from hypothesis import given
from hypothesis import strategies as st

from mesh_core import ids
from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.ids import Prefix
from mesh_core.rpc.account_id import account_of, account_shard
from sessionmesh.v1 import chat_pb2, content_pb2, message_pb2, session_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
account_ids = st.binary(min_size=16, max_size=16).map(lambda raw: ids.encode(Prefix.ACCOUNT, UUID(raw)))

ACCOUNT = "acc_01K0000000000000000000000A"


@given(account_id=st.one_of(account_ids, texts), request_id=texts, body=texts)
def test_the_account_id_of_a_real_request_is_what_parsing_finds(
    account_id: str, request_id: str, body: str
) -> None:
    request = message_pb2.SendMessageRequest(
        account_id=account_id,
        request_id=request_id,
        content=content_pb2.Content(text=content_pb2.TextContent(body=body)),
        labels={"a": body},
        priority=message_pb2.PRIORITY_HIGH,
    )
    request.schedule_time.GetCurrentTime()
    assert account_of(request.SerializeToString()) == account_id


@given(account_id=texts, page_size=st.integers(0, 2**31 - 1), token=texts)
def test_field_order_does_not_matter(account_id: str, page_size: int, token: str) -> None:
    first = chat_pb2.ListChatsRequest(account_id=account_id).SerializeToString()
    rest = chat_pb2.ListChatsRequest(page_size=page_size, page_token=token).SerializeToString()
    assert account_of(rest + first) == account_id


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_failing(raw: bytes) -> None:
    with suppress(InvalidArgument):
        account_of(raw)


@given(account_id=account_ids, cut=st.integers(1, 31))
def test_a_cut_request_is_refused(account_id: str, cut: int) -> None:
    raw = session_pb2.GetSessionRequest(account_id=account_id).SerializeToString()
    with pytest.raises(InvalidArgument):
        account_of(raw[:-cut])


@given(first=account_ids, last=st.one_of(account_ids, st.just("")))
def test_a_request_that_names_two_accounts_is_refused_whichever_comes_first(first: str, last: str) -> None:
    one = session_pb2.GetSessionRequest(account_id=first).SerializeToString()
    other = bytes([0x0A, len(last)]) + last.encode()
    for twice in (one + other, other + one, one + one):
        with pytest.raises(InvalidField, match="account_id"):
            account_shard(twice, "")


@given(account_ids)
def test_metadata_and_request_may_agree(account_id: str) -> None:
    raw = session_pb2.GetSessionRequest(account_id=account_id).SerializeToString()
    assert account_shard(raw, account_id) == ids.shard_of(account_id)


def test_metadata_and_request_must_not_differ() -> None:
    raw = session_pb2.GetSessionRequest(account_id=ids.new_id(Prefix.ACCOUNT)).SerializeToString()
    with pytest.raises(InvalidArgument) as raised:
        account_shard(raw, ids.new_id(Prefix.ACCOUNT))
    assert raised.value.reason == "ACCOUNT_MISMATCH"


@pytest.mark.parametrize("named", ["", ACCOUNT])
def test_a_request_must_name_its_account_whatever_the_metadata_say(named: str) -> None:
    with pytest.raises(InvalidField, match="is required") as raised:
        account_shard(b"", named)
    assert raised.value.field == "account_id"


@pytest.mark.parametrize(
    "text",
    [
        "acc_",
        "7",
        "nonsense",
        "acc_ü",
        "msg_00000000000000000000000000",
        "tnt_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "acc_01arz3ndektsv4rrffq69g5fav",
    ],
)
def test_what_is_no_account_id_is_refused(text: str) -> None:
    raw = session_pb2.GetSessionRequest(account_id=text).SerializeToString()
    with pytest.raises(InvalidField) as raised:
        account_shard(raw, "")
    assert raised.value.field == "account_id"
