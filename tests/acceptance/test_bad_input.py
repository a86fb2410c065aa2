"""What the router's callers may get wrong, and what they are told."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from mesh_cli.demo.receiver import Receiver
from sessionmesh.v1 import (
    account_pb2,
    common_pb2,
    media_pb2,
    message_pb2,
    session_pb2,
    template_pb2,
    template_pb2_grpc,
)
from tests.support.address_vectors import address_vectors
from tests.support.mesh_api import Caller, Tenant, text_message, unique

NOBODY = "acc_00000000000000000000000000"
MAX_TEXT_BYTES = 65_536
TEXTS = {
    "NUL": "before\0after",
    "64 kB": "ä" * (MAX_TEXT_BYTES // 2),
    "lone emoji": "👩‍👩‍👧‍👦",
}


@pytest.fixture
async def unpaired(tenant: Tenant) -> account_pb2.Account:
    """An account of `tenant` that was never paired."""
    return await tenant.caller.new_account()


async def test_a_message_that_cannot_be_sent_is_refused_with_its_field(
    tenant: Tenant, account: account_pb2.Account
) -> None:
    request = text_message(account.id, recipient="0151 12345678")
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, request)
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), refusal
    assert refusal.fields == ("recipient",)


async def test_no_malformed_address_is_taken_for_a_recipient(
    tenant: Tenant, unpaired: account_pb2.Account
) -> None:
    for vector in address_vectors():
        if vector.canonical is None:
            refusal = await tenant.caller.refused(
                tenant.caller.messages.SendMessage, text_message(unpaired.id, recipient=vector.input)
            )
            assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("recipient",)), vector


async def test_a_malformed_account_id_is_refused(tenant: Tenant) -> None:
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, text_message("nonsense"))
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    assert refusal.fields == ("account_id",)


async def test_a_malformed_message_id_is_refused(tenant: Tenant, unpaired: account_pb2.Account) -> None:
    reference = common_pb2.MessageRef(message_id="nonsense")
    request = message_pb2.GetMessageRequest(account_id=unpaired.id, message=reference)
    refusal = await tenant.caller.refused(tenant.caller.messages.GetMessage, request)
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("message.message_id",))


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
    admin: Caller, tenant: Tenant, unpaired: account_pb2.Account
) -> None:
    _, stranger = await admin.new_tenant()
    for method, request in (
        (stranger.messages.SendMessage, text_message(unpaired.id)),
        (stranger.sessions.GetSession, session_pb2.GetSessionRequest(account_id=unpaired.id)),
        (stranger.accounts.GetAccount, account_pb2.GetAccountRequest(account_id=unpaired.id)),
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


async def test_without_a_valid_key_nothing_is_answered(admin: Caller, unpaired: account_pb2.Account) -> None:
    for key, reason in (("", "CREDENTIALS_MISSING"), ("smk_a_b", "CREDENTIALS_INVALID")):
        caller = admin.with_key(key)
        for method, request in (
            (caller.messages.SendMessage, text_message(unpaired.id)),
            (caller.accounts.GetAccount, account_pb2.GetAccountRequest(account_id=unpaired.id)),
        ):
            refusal = await caller.refused(method, request)
            assert (refusal.code, refusal.reason) == (StatusCode.UNAUTHENTICATED, reason)


async def test_a_header_that_names_another_account_is_refused(
    tenant: Tenant, unpaired: account_pb2.Account
) -> None:
    other = await tenant.caller.new_account()
    refusal = await tenant.caller.refused(
        tenant.caller.messages.SendMessage,
        text_message(unpaired.id),
        metadata=(("x-account-id", other.id),),
    )
    assert (refusal.code, refusal.reason) == (StatusCode.INVALID_ARGUMENT, "ACCOUNT_MISMATCH")


async def test_what_is_not_served_says_so(tenant: Tenant, unpaired: account_pb2.Account) -> None:
    templates = template_pb2_grpc.TemplateServiceStub(tenant.caller.channel)
    request = template_pb2.ListTemplatesRequest(account_id=unpaired.id)
    refusal = await tenant.caller.refused(templates.ListTemplates, request)
    assert (refusal.code, refusal.reason) == (StatusCode.UNIMPLEMENTED, "NOT_SERVED")


async def test_an_account_that_is_not_paired_cannot_send(
    tenant: Tenant, unpaired: account_pb2.Account
) -> None:
    refusal = await tenant.caller.refused(tenant.caller.messages.SendMessage, text_message(unpaired.id))
    assert (refusal.code, refusal.reason) == (StatusCode.FAILED_PRECONDITION, "NOT_PAIRED")


async def test_texts_arrive_exactly_as_they_were_sent(
    admin: Caller, tenant: Tenant, account: account_pb2.Account
) -> None:
    """From the sender's copy over the network to the recipient's copy and his webhook."""
    caller = tenant.caller
    recipient = await caller.new_account()
    await caller.pair(recipient, admin)
    async with Receiver() as receiver:
        receiver.secret = await caller.new_endpoint(receiver.url, "message.received")
        for body in TEXTS.values():
            request = text_message(account.id, body, recipient=recipient.phone)
            sent = await caller.send(request)
            stored = await caller.until_delivered(account.id, sent.id)
            assert stored.content.text.body == body
        await receiver.until(lambda events: len(events) == len(TEXTS), 30)
        events = receiver.received.events.values()
        bodies = {event["message"]["message"]["content"]["text"]["body"] for event in events}
        assert bodies == set(TEXTS.values())
    inbox = message_pb2.ListMessagesRequest(account_id=recipient.id, direction=message_pb2.DIRECTION_INBOUND)
    received = (await caller(caller.messages.ListMessages, inbox)).messages
    assert {message.content.text.body for message in received} == set(TEXTS.values())
