"""What the router's callers may get wrong, and what they are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from grpc import StatusCode

from mesh_cli.demo.receiver import Receiver
from sessionmesh.v1 import (
    account_pb2,
    common_pb2,
    contact_pb2,
    media_pb2,
    message_pb2,
    session_pb2,
)
from tests.support.mesh_api import Caller, Tenant, text_message, unique

NOBODY = "acc_00000000000000000000000000"
MAX_TEXT_BYTES = 65_536
TEXTS = {
    "NUL": "before\0after",
    "64 kB": "ä" * (MAX_TEXT_BYTES // 2),
    "lone emoji": "👩‍👩‍👧‍👦",
}


def _no_recipient(request: message_pb2.SendMessageRequest) -> None:
    request.ClearField("recipient")


def _unset_recipient(request: message_pb2.SendMessageRequest) -> None:
    request.recipient.CopyFrom(common_pb2.Recipient())


def _unknown_recipient_kind(request: message_pb2.SendMessageRequest) -> None:
    # Field 99 of Recipient: a kind that a later version of the API may have.
    request.recipient.CopyFrom(common_pb2.Recipient.FromString(b"\x9a\x06\x01x"))


def _malformed_phone(request: message_pb2.SendMessageRequest) -> None:
    request.recipient.phone = "0151 12345678"


def _no_content(request: message_pb2.SendMessageRequest) -> None:
    request.ClearField("content")


def _empty_text(request: message_pb2.SendMessageRequest) -> None:
    request.content.text.body = ""


def _oversized_text(request: message_pb2.SendMessageRequest) -> None:
    request.content.text.body = "x" * (MAX_TEXT_BYTES + 1)


def _received_only_content(request: message_pb2.SendMessageRequest) -> None:
    request.content.revoked.SetInParent()


def _malformed_media_id(request: message_pb2.SendMessageRequest) -> None:
    request.content.image.media.media_id = "med_nonsense"


def _malformed_reply(request: message_pb2.SendMessageRequest) -> None:
    request.options.reply_to_message_id = "msg_nonsense"


def _no_request_id(request: message_pb2.SendMessageRequest) -> None:
    request.request_id = ""


def _long_request_id(request: message_pb2.SendMessageRequest) -> None:
    request.request_id = "r" * 65


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_no_recipient, "recipient"),
        (_unset_recipient, "recipient"),
        (_unknown_recipient_kind, "recipient"),
        (_malformed_phone, "recipient.phone"),
        (_no_content, "content"),
        (_empty_text, "content.text.body"),
        (_oversized_text, "content.text.body"),
        (_received_only_content, "content.revoked"),
        (_malformed_media_id, "content.image.media.media_id"),
        (_malformed_reply, "options.reply_to_message_id"),
        (_no_request_id, "request_id"),
        (_long_request_id, "request_id"),
    ],
)
async def test_a_message_that_cannot_be_sent_is_refused_with_its_field(
    tenant: Tenant,
    account: account_pb2.Account,
    spoil: Callable[[message_pb2.SendMessageRequest], None],
    field: str,
) -> None:
    request = text_message(account.id)
    spoil(request)
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, request)
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), refusal
    assert refusal.fields == (field,)


@pytest.mark.parametrize("account_id", ["", "nonsense", "acc_", "msg_00000000000000000000000000", "acc_ü"])
async def test_a_malformed_account_id_is_refused(tenant: Tenant, account_id: str) -> None:
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, text_message(account_id))
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    assert refusal.fields == ("account_id",)


async def test_a_malformed_message_id_is_refused(tenant: Tenant, account: account_pb2.Account) -> None:
    request = message_pb2.GetMessageRequest(account_id=account.id, message_id="nonsense")
    refusal = await tenant.caller.refused(tenant.caller.messages.GetMessage, request)
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("message_id",))


async def test_an_unknown_account_is_not_found(tenant: Tenant) -> None:
    caller = tenant.caller
    for method, request in (
        (caller.messages.SendMessage, text_message(NOBODY)),
        (caller.sessions.GetSession, session_pb2.GetSessionRequest(account_id=NOBODY)),
        (caller.accounts.GetAccount, account_pb2.GetAccountRequest(account_id=NOBODY)),
    ):
        refusal = await caller.refused(method, request)
        assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_another_tenants_account_is_not_found(
    admin: Caller, tenant: Tenant, account: account_pb2.Account
) -> None:
    _, stranger = await admin.new_tenant()
    for method, request in (
        (stranger.messages.SendMessage, text_message(account.id)),
        (stranger.sessions.GetSession, session_pb2.GetSessionRequest(account_id=account.id)),
        (stranger.accounts.GetAccount, account_pb2.GetAccountRequest(account_id=account.id)),
    ):
        refusal = await stranger.refused(method, request)
        assert (refusal.code, refusal.reason) == (StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_a_file_of_another_type_is_refused(tenant: Tenant, account: account_pb2.Account) -> None:
    media = await tenant.caller.upload(b"Just a few words.\n", "words.txt")
    request = text_message(account.id)
    request.content.image.media.media_id = media.id
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, request)
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    assert refusal.fields == ("content.image.media.media_id",)


async def test_an_unknown_file_is_not_found(tenant: Tenant) -> None:
    request = media_pb2.GetMediaRequest(media_id="med_00000000000000000000000000")
    refusal = await tenant.caller.refused(tenant.caller.media.GetMedia, request)
    assert refusal.code is StatusCode.NOT_FOUND


async def test_the_same_request_again_gives_the_same_message(
    tenant: Tenant, account: account_pb2.Account
) -> None:
    request = text_message(account.id, "Once")
    first, again = await tenant.caller.send(request), await tenant.caller.send(request)
    assert (first.id, first.network_message_id) == (again.id, again.network_message_id)
    listed = await tenant.caller(
        tenant.caller.messages.ListMessages, message_pb2.ListMessagesRequest(account_id=account.id)
    )
    assert [message.id for message in listed.messages] == [first.id]


async def test_a_request_id_with_another_payload_is_refused(
    tenant: Tenant, account: account_pb2.Account
) -> None:
    request_id = unique()
    await tenant.caller.send(text_message(account.id, "One", request_id=request_id))
    refusal = await tenant.caller.refused(
        tenant.caller.messages.SendMessage, text_message(account.id, "Another", request_id=request_id)
    )
    assert (refusal.code, refusal.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("key", "reason"),
    [("", "CREDENTIALS_MISSING"), ("nonsense", "CREDENTIALS_INVALID"), ("smk_a_b", "CREDENTIALS_INVALID")],
)
async def test_without_a_valid_key_nothing_is_answered(
    admin: Caller, account: account_pb2.Account, key: str, reason: str
) -> None:
    caller = admin.with_key(key)
    for method, request in (
        (caller.messages.SendMessage, text_message(account.id)),
        (caller.accounts.GetAccount, account_pb2.GetAccountRequest(account_id=account.id)),
    ):
        refusal = await caller.refused(method, request)
        assert (refusal.code, refusal.reason) == (StatusCode.UNAUTHENTICATED, reason)


async def test_a_header_that_names_another_account_is_refused(
    tenant: Tenant, account: account_pb2.Account
) -> None:
    other = await tenant.caller.new_account()
    refusal = await tenant.caller.refused(
        tenant.caller.messages.SendMessage,
        text_message(account.id),
        metadata=(("x-account-id", other.id),),
    )
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "ACCOUNT_MISMATCH")


async def test_what_is_not_served_says_so(tenant: Tenant, account: account_pb2.Account) -> None:
    request = contact_pb2.CheckNumbersRequest(account_id=account.id, phones=["+4915112345678"])
    refusal = await tenant.caller.refused(tenant.caller.contacts.CheckNumbers, request)
    assert (refusal.code, refusal.reason) == (StatusCode.UNIMPLEMENTED, "NOT_SERVED")


async def test_an_account_that_is_not_paired_cannot_send(tenant: Tenant) -> None:
    fresh = await tenant.caller.new_account()
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, text_message(fresh.id))
    assert (refusal.code, refusal.reason) == (StatusCode.FAILED_PRECONDITION, "NOT_PAIRED")


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
async def test_a_text_arrives_exactly_as_it_was_sent(
    admin: Caller, tenant: Tenant, account: account_pb2.Account, body: str
) -> None:
    """From the sender's copy over the network to the recipient's copy and his webhook."""
    caller = tenant.caller
    recipient = await caller.new_account()
    await caller.pair(recipient, admin)
    async with Receiver() as receiver:
        receiver.secret = await caller.new_endpoint(receiver.url, "message.received")
        request = text_message(account.id, body, recipient=common_pb2.Recipient(phone=recipient.phone))
        sent = await caller.send(request)
        stored = await caller.until_delivered(account.id, sent.id)
        assert stored.content.text.body == body
        await receiver.until(lambda events: len(events) == 1, 30)
        (event,) = receiver.received.events.values()
        assert event["message"]["message"]["content"]["text"]["body"] == body
    inbox = message_pb2.ListMessagesRequest(account_id=recipient.id, direction=message_pb2.DIRECTION_INBOUND)
    received = (await caller(caller.messages.ListMessages, inbox)).messages
    assert [message.content.text.body for message in received] == [body]
