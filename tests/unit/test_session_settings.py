"""A session's settings: when they hold, and what must not come between."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_core.errors import Aborted, FailedPrecondition
from mesh_session_node.account.pairing import Pairings
from mesh_session_node.calls.sessions.session_settings import SessionSettingsCalls
from mesh_session_node.context.context import SessionSettings
from mesh_session_node.journal import SessionSnapshot
from sessionmesh.internal.v1.session_pb2 import StoredSettings
from sessionmesh.v1 import session_pb2 as pb
from tests.support.at_once import AtOnce
from tests.support.memory_host import PHONE, SEALED, OneAccount

ONE, OTHER = "socks5://anna:secret@10.0.0.1", "socks5://10.0.0.2:1080"


async def update(account: OneAccount, **fields: Any) -> pb.SessionSettings:
    """A call of UpdateSessionSettings, which sets these fields."""

    async def write(session: Any, *rows: Any) -> None:
        session.context.host.journal.post(session.context.ref, *rows)

    calls = MagicMock(session=AsyncMock(return_value=account.session), write=write)
    paths = [name for name in fields if name != "etag"]
    request = pb.UpdateSessionSettingsRequest(
        account_id=account.session.id,
        settings=pb.SessionSettings(**fields),
        update_mask=FieldMask(paths=paths),
    )
    return (await SessionSettingsCalls(calls).UpdateSessionSettings(request, MagicMock())).settings


def stored(account: OneAccount) -> StoredSettings:
    return StoredSettings.FromString(account.stored(SessionSnapshot)[-1].settings)


async def test_settings_are_stored_with_the_session_and_the_proxy_sealed(account: OneAccount) -> None:
    await account.connected()
    await update(account, auto_read=True, proxy_url=ONE)
    row = stored(account)
    assert (row.given.auto_read, row.version) == (True, 1)
    assert not row.given.proxy_url
    assert row.sealed_proxy_url == SEALED + ONE.encode()


async def test_a_live_session_connects_anew_through_another_proxy(account: OneAccount) -> None:
    await account.connected()
    await update(account, proxy_url=ONE)
    assert account.driver.links[0].aborted
    await account.dial()
    assert account.driver.link.proxy is not None
    assert account.driver.link.proxy.url == ONE
    await update(account, proxy_url=ONE, auto_read=True)
    assert not account.driver.link.aborted, "it is the same proxy"


async def test_a_login_past_a_proxy_that_was_set_meanwhile_is_not_used(account: OneAccount) -> None:
    account.driver.hold_logins = True
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    await update(account, proxy_url=OTHER)
    account.driver.link.log_in()
    await account.settle()
    assert account.shown.state == pb.SESSION_STATE_CONNECTING
    assert account.driver.links[0].aborted
    account.driver.hold_logins = False
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED
    assert account.driver.link.proxy is not None
    assert account.driver.link.proxy.url == OTHER


async def test_nothing_changes_while_the_account_is_being_paired(account: OneAccount) -> None:
    pairings = Pairings(SessionSettings(), AtOnce())
    pairings.begin(account.session, pb.PairRequest(), 60.0)
    await account.settle()
    with pytest.raises(FailedPrecondition) as refused:
        await update(account, device_name="Late")
    assert refused.value.reason == "PAIRING_IN_PROGRESS"
    assert not account.session.context.settings.given.device_name


async def test_when_an_account_was_paired_is_kept_with_what_was_set_before(account: OneAccount) -> None:
    await update(account, device_name="Front desk", sync_full_history=True)
    pairings = Pairings(SessionSettings(), AtOnce())
    pairings.begin(account.session, pb.PairRequest(), 60.0)
    await account.settle()
    device = account.driver.pairing.device
    assert (device.name, device.with_history) == ("Front desk", True)
    account.driver.pairing.accept(PHONE)
    await account.settle()
    await account.journal.commit()
    row = stored(account)
    assert row.given.device_name == "Front desk"
    assert row.pair_time.ToMicroseconds() == account.session.context.settings.pair_time
    assert account.session.paired


async def test_a_plan_of_an_account_whose_pairing_is_not_known_begins_when_it_is_set(
    account: OneAccount,
) -> None:
    await account.connected()
    plan = pb.WarmUpPlan(messages_per_day=[1, 2])
    await update(account, warm_up=plan)
    begun = account.session.context.settings.pair_time
    assert begun is not None
    await account.send("one")
    await account.send("two")
    assert account.on_the_network == ["one"]
    await update(account, warm_up=plan, auto_read=True)
    assert account.session.context.settings.pair_time == begun


async def test_of_two_updates_with_one_etag_one_is_refused(account: OneAccount) -> None:
    first = await update(account, auto_read=True)
    await update(account, auto_read=False, etag=first.etag)
    with pytest.raises(Aborted):
        await update(account, auto_read=True, etag=first.etag)
