"""The fields of accounts, tenants and keys that the router refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_core import validation
from mesh_core.errors import InvalidField
from mesh_router.accounts import fields as accounts
from mesh_router.accounts.fields import SendCeilingSettings
from mesh_router.tenants import keys
from mesh_router.tenants import rows as tenants
from mesh_router.tenants.tenants import CHANGEABLE as TENANT_CHANGEABLE
from sessionmesh.v1 import account_pb2, authorization_pb2, tenant_pb2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"external_id": "x" * 129}, "account.external_id"),
        ({"display_name": "a\0"}, "account.display_name"),
        ({"phone": "0151 1234"}, "account.phone"),
        ({"labels": {str(n): "x" for n in range(33)}}, "account.labels"),
        ({"send_limits": account_pb2.SendLimits(per_day=-1)}, "account.send_limits.per_day"),
    ],
)
def test_a_bad_field_of_an_account_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        accounts.checked(account_pb2.Account(**given), "simulated")
    assert refused.value.field == field


def test_an_account_is_online_on_the_clusters_network_unless_it_says_otherwise() -> None:
    given = accounts.checked(account_pb2.Account(), "whatsapp_web")
    assert (given.driver, given.desired_state) == ("whatsapp_web", account_pb2.DESIRED_STATE_ONLINE)
    assert (given.external_id, json.loads(given.settings)) == (None, {})


def test_an_account_keeps_the_network_that_it_names() -> None:
    named = account_pb2.Account(driver=account_pb2.DRIVER_SIMULATED)
    assert accounts.checked(named, "whatsapp_web").driver == "simulated"


def test_a_limit_of_zero_is_stored_and_an_absent_one_is_not() -> None:
    given = accounts.checked(account_pb2.Account(send_limits=account_pb2.SendLimits(per_hour=0)), "simulated")
    assert json.loads(given.settings) == {"send_limits": {"per_hour": 0}}


@pytest.mark.parametrize("name", ["per_minute", "per_hour", "per_day", "outbox"])
def test_a_limit_may_reach_the_ceiling_and_not_pass_it(name: str) -> None:
    ceiling = SendCeilingSettings()
    most = getattr(ceiling, name)
    accounts.check_ceiling(account_pb2.SendLimits(**{name: most}), ceiling)
    with pytest.raises(InvalidField) as refused:
        accounts.check_ceiling(account_pb2.SendLimits(**{name: most + 1}), ceiling)
    assert refused.value.field == f"account.send_limits.{name}"


@pytest.mark.parametrize("paths", [[], ["external_id"], ["driver"], ["id"]])
def test_a_mask_must_name_what_can_be_changed_of_an_account(paths: list[str]) -> None:
    with pytest.raises(InvalidField) as refused:
        validation.field_mask(FieldMask(paths=paths), accounts.CHANGEABLE)
    assert refused.value.field == "update_mask"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"display_name": "x" * 129}, "tenant.display_name"),
        ({"state": 9}, "tenant.state"),
        ({"settings": tenant_pb2.TenantSettings(max_accounts=-1)}, "tenant.settings.max_accounts"),
        (
            {"settings": tenant_pb2.TenantSettings(retention=Duration(seconds=3599))},
            "tenant.settings.retention",
        ),
    ],
)
def test_a_bad_field_of_a_tenant_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        tenants.checked(tenant_pb2.Tenant(**given))
    assert refused.value.field == field


@pytest.mark.parametrize("paths", [[], ["external_id"], ["id"], ["settings.nothing"]])
def test_a_mask_must_name_what_can_be_changed_of_a_tenant(paths: list[str]) -> None:
    with pytest.raises(InvalidField) as refused:
        validation.field_mask(FieldMask(paths=paths), TENANT_CHANGEABLE)
    assert refused.value.field == "update_mask"


def test_settings_of_a_tenant_are_stored_where_they_were_given_and_shown_again() -> None:
    settings = tenant_pb2.TenantSettings(max_accounts=0, retention=Duration(seconds=86_400))
    stored = tenants.checked(tenant_pb2.Tenant(settings=settings)).settings
    assert stored == {"max_accounts": 0, "retention_seconds": 86_400}
    assert tenants.settings_message(stored) == settings


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"scopes": [authorization_pb2.SCOPE_MESH]}, "scopes[0]"),
        ({"scopes": [authorization_pb2.SCOPE_READ, authorization_pb2.SCOPE_OPERATOR]}, "scopes"),
        ({"account_ids": ["acc_1"]}, "account_ids[0]"),
        ({"account_ids": ["acc_1"] * 1001}, "account_ids"),
        ({"display_name": "x" * 129}, "display_name"),
    ],
)
def test_a_bad_field_of_a_key_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        keys.checked_key(tenant_pb2.CreateApiKeyRequest(**given))
    assert refused.value.field == field


def test_a_new_key_expires_in_the_future_or_never() -> None:
    keys.check_ahead(None)
    keys.check_ahead(datetime.now(UTC) + timedelta(minutes=1))
    with pytest.raises(InvalidField) as refused:
        keys.check_ahead(datetime.now(UTC))
    assert refused.value.field == "expire_time"
