"""GetServerInfo tells the truth: what it says is taken, one more is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from grpc import StatusCode

from sessionmesh.v1 import account_pb2, message_pb2, server_pb2, server_pb2_grpc, session_pb2
from tests.support.mesh_api import Caller, Tenant, text_message


async def info(caller: Caller) -> server_pb2.GetServerInfoResponse:
    stub = server_pb2_grpc.ServerServiceStub(caller.channel)
    found: server_pb2.GetServerInfoResponse = await caller(
        stub.GetServerInfo, server_pb2.GetServerInfoRequest()
    )
    return found


async def test_it_says_who_asks_and_what_answers(admin: Caller, tenant: Tenant) -> None:
    found = await info(tenant.caller)
    assert (found.api_edition, found.tenant_id) == (2, tenant.id)
    assert found.version
    assert found.cluster
    assert (await info(admin)).tenant_id == ""


async def test_its_default_driver_is_one_of_its_drivers_and_what_accounts_get(tenant: Tenant) -> None:
    found = await info(tenant.caller)
    assert found.default_driver in {driver.driver for driver in found.drivers}
    assert (await tenant.caller.new_account()).driver == found.default_driver


async def test_a_driver_pairs_and_sends_what_it_says(tenant: Tenant) -> None:
    drivers = {driver.driver: driver for driver in (await info(tenant.caller)).drivers}
    assert drivers.keys() == {account_pb2.DRIVER_SIMULATED, account_pb2.DRIVER_WHATSAPP_WEB}
    driver = drivers[account_pb2.DRIVER_SIMULATED]
    assert {session_pb2.PAIR_METHOD_QR, session_pb2.PAIR_METHOD_CODE} == {*driver.pairing_methods}
    assert {"text", "image", "voice_note", "reaction"} <= {*driver.content_kinds}


async def test_a_driver_that_needs_a_program_says_which_runs_or_why_none_does(tenant: Tenant) -> None:
    programs = {
        driver.driver: driver.program
        for driver in (await info(tenant.caller)).drivers
        if driver.HasField("program")
    }
    assert programs.keys() == {account_pb2.DRIVER_WHATSAPP_WEB}
    program = programs[account_pb2.DRIVER_WHATSAPP_WEB]
    assert program.client_version or program.problem


def largest(limits: server_pb2.Limits, more: int) -> dict[str, message_pb2.SendMessageRequest]:
    """For each field a message that is `more` than the largest one in it."""

    def labels(count: int, key: int = 8, value: int = 8) -> dict[str, str]:
        return {f"{number}".zfill(key): "v" * value for number in range(count)}

    now = datetime.now(UTC)
    scheduled = text_message("")
    ahead = timedelta(seconds=limits.schedule_ahead.seconds + (60 if more else -60))
    scheduled.schedule_time.FromDatetime(now + ahead)
    key, value = limits.label_key_characters, limits.label_value_characters
    return {
        "content.text.body": text_message("", "x" * (limits.text_bytes + more)),
        "request_id": text_message("", request_id="ä" * (limits.request_id_characters + more)),
        "external_id": text_message("", external_id="ä" * (limits.external_id_characters + more)),
        "labels": text_message("", labels=labels(limits.message_labels + more)),
        "labels of long keys": text_message("", labels=labels(1, key=key + more)),
        "labels of long values": text_message("", labels=labels(1, value=value + more)),
        "schedule_time": scheduled,
    }


@pytest.mark.read_back("GetServerInfo")
async def test_what_is_as_large_as_it_says_is_taken_and_one_more_is_refused(
    tenant: Tenant, account: account_pb2.Account
) -> None:
    caller = tenant.caller
    limits = (await info(caller)).limits
    for request in largest(limits, 0).values():
        request.account_id = account.id
        assert (await caller.send(request)).id
    for field, request in largest(limits, 1).items():
        request.account_id = account.id
        refusal = await caller.refused(caller.messages.SendMessage, request)
        assert refusal.code is StatusCode.INVALID_ARGUMENT, field
        assert refusal.fields[0].startswith(field.split(" ")[0]), refusal


@pytest.mark.parametrize("more", [0, 1])
async def test_a_page_and_a_batch_have_as_many_items_as_it_says(tenant: Tenant, more: int) -> None:
    caller = tenant.caller
    limits = (await info(caller)).limits
    pages = account_pb2.ListAccountsRequest(page_size=limits.page_items + more)
    account = await caller.new_account()
    batch = message_pb2.BatchSendMessagesRequest(
        messages=[text_message(account.id) for _ in range(limits.batch_items + more)]
    )
    if more:
        assert (await caller.refused(caller.accounts.ListAccounts, pages)).fields == ("page_size",)
        assert (await caller.refused(caller.messages.BatchSendMessages, batch)).fields == ("messages",)
        return
    assert (await caller(caller.accounts.ListAccounts, pages)).accounts
    answered = await caller(caller.messages.BatchSendMessages, batch)
    assert len(answered.results) == limits.batch_items
