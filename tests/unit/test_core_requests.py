"""What the protos alone say of a request, and whom keys that are limited to accounts may ask for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids
from mesh_core.errors import InvalidField, NotFound, PermissionDenied
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import AccountLimit, Identity, Role
from mesh_core.rpc.server.requests import check
from mesh_router.proxy.routes import SERVICES
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import (
    account_pb2,
    authorization_pb2,
    content_pb2,
    job_pb2,
    media_pb2,
    message_pb2,
    tenant_pb2,
    webhook_pb2,
)

URL = "https://example.com/hook"
NAN, INFINITY = float("nan"), float("inf")


def sent(**content: Any) -> message_pb2.SendMessageRequest:
    return message_pb2.SendMessageRequest(
        account_id="a", request_id="r", recipient="status", content=content_pb2.Content(**content)
    )


def changed(*paths: str, **fields: Any) -> webhook_pb2.UpdateEndpointRequest:
    return webhook_pb2.UpdateEndpointRequest(
        endpoint_id="e", endpoint=webhook_pb2.Endpoint(**fields), update_mask=FieldMask(paths=paths)
    )


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (tenant_pb2.CreateTenantRequest(), "request_id"),
        (tenant_pb2.CreateTenantRequest(request_id="1"), "tenant"),
        (tenant_pb2.CreateApiKeyRequest(request_id="1"), "scopes"),
        (fleet_pb2.PlanCapacityRequest(), "accounts"),
        (webhook_pb2.CreateEndpointRequest(request_id="1", endpoint=webhook_pb2.Endpoint()), "endpoint.url"),
        (
            message_pb2.BatchSendMessagesRequest(messages=[sent(), message_pb2.SendMessageRequest()]),
            "messages[1].account_id",
        ),
        (sent(location=content_pb2.LocationContent(latitude=0)), "content.location.longitude"),
    ],
)
def test_what_is_required_must_be_there(request_: Message, field: str) -> None:
    with pytest.raises(InvalidField, match="is required") as refused:
        check(request_)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "request_",
    [
        tenant_pb2.CreateTenantRequest(request_id="1", tenant=tenant_pb2.Tenant()),
        sent(location=content_pb2.LocationContent(latitude=0, longitude=0)),
        sent(),
        webhook_pb2.ListEndpointsRequest(),
    ],
)
def test_what_is_optional_may_be_left_out_and_a_given_zero_is_a_value(request_: Message) -> None:
    check(request_)


def test_of_a_resource_that_is_changed_only_what_the_mask_names_is_required() -> None:
    check(changed("event_types"))
    check(changed("url", url=URL))
    for mask in ("url", "*"):
        with pytest.raises(InvalidField, match="is required") as refused:
            check(changed("event_types", mask))
        assert refused.value.field == "endpoint.url"


def test_what_a_mask_does_not_name_may_lack_what_it_requires_inside() -> None:
    request = media_pb2.UpdateMediaPolicyRequest(update_mask=FieldMask(paths=["compression"]))
    request.policy.retention_rules.add()
    check(request)
    request.update_mask.paths[:] = ["retention_rules"]
    with pytest.raises(InvalidField) as refused:
        check(request)
    assert refused.value.field == "policy.retention_rules[0].category"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (job_pb2.ListJobsRequest(kind=99), "kind"),  # type: ignore[arg-type]
        (job_pb2.ListJobsRequest(states=[1, 99]), "states[1]"),  # type: ignore[list-item]
        (job_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_UNSPECIFIED]), "states[0]"),
        (
            account_pb2.CreateAccountRequest(
                request_id="1",
                account=account_pb2.Account(driver=-1),  # type: ignore[arg-type]
            ),
            "account.driver",
        ),
        (
            account_pb2.CreateAccountRequest(
                request_id="1", account=account_pb2.Account(labels={"ok": "", "bad": "a\0"})
            ),
            "account.labels[bad]",
        ),
        (
            account_pb2.CreateAccountRequest(request_id="1", account=account_pb2.Account(labels={"a\0": ""})),
            "account.labels",
        ),
        (fleet_pb2.PlanCapacityRequest(accounts=1, messages_per_second=NAN), "messages_per_second"),
        (fleet_pb2.PlanCapacityRequest(accounts=1, messages_per_second=INFINITY), "messages_per_second"),
        (
            tenant_pb2.CreateApiKeyRequest(
                request_id="1",
                scopes=[authorization_pb2.SCOPE_READ],
                expire_time=Timestamp(seconds=253_402_300_800),
            ),
            "expire_time",
        ),
        (
            tenant_pb2.RotateApiKeyRequest(request_id="1", key_id="k", overlap=Duration(seconds=1, nanos=-1)),
            "overlap",
        ),
        (
            tenant_pb2.RotateApiKeyRequest(request_id="1", key_id="k", overlap=Duration(seconds=2**62)),
            "overlap",
        ),
        (tenant_pb2.GetTenantRequest(tenant_id="\0"), "tenant_id"),
    ],
)
def test_what_no_value_of_the_field_can_be_is_refused_naming_its_path(request_: Message, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(request_)
    assert refused.value.field == field


def lists(descriptor: Descriptor, path: str = "", seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Paths of the lists of scalars in a request, also inside its messages."""
    for field in descriptor.fields:
        here = f"{path}{field.name}"
        if field.message_type is None:
            if field.is_repeated:
                yield here
        elif not field.is_repeated and field.message_type.full_name not in seen:
            yield from lists(field.message_type, f"{here}.", seen | {field.message_type.full_name})


def test_the_network_is_told_of_all_calls_of_a_long_run() -> None:
    calls = [simulator_pb2.CallerRecord(request_id=str(number)) for number in range(100_000)]
    check(simulator_pb2.GetVerdictRequest(calls=calls))


@pytest.mark.parametrize("service", [service for service in SERVICES if "sessionmesh." in service])
def test_no_list_of_any_method_is_walked_when_it_is_too_long(service: str) -> None:
    found = descriptor_pool.Default().FindServiceByName(service)
    for method in found.methods:
        for path in lists(method.input_type):
            request = message_factory.GetMessageClass(method.input_type)()
            *parents, name = path.split(".")
            inner: Any = request
            for parent in parents:
                inner = getattr(inner, parent)
                inner.SetInParent()
            kind = inner.DESCRIPTOR.fields_by_name[name].type
            entry = {FieldDescriptor.TYPE_STRING: "a", FieldDescriptor.TYPE_BYTES: b"a"}.get(kind, 1)
            getattr(inner, name).extend([entry] * 3000)
            with pytest.raises(InvalidField) as refused:
                check(request)
            where = f"{method.full_name}: {path}"
            if refused.value.field == path.replace(".paths", ""):
                assert "must have at most" in refused.value.message, where
            else:
                assert refused.value.message.endswith("is required"), where


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_required_field_of_every_method_is_demanded(service: str) -> None:
    for method in descriptor_pool.Default().FindServiceByName(service).methods:
        request = message_factory.GetMessageClass(method.input_type)()
        required = [field.name for field in method.input_type.fields if is_required(field)]
        if not required:
            check(request)
            continue
        with pytest.raises(InvalidField, match="is required") as refused:
            check(request)
        assert refused.value.field == required[0]


def is_required(field: FieldDescriptor) -> bool:
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behavior


MINE, OTHER = ids.new_id(Prefix.ACCOUNT), ids.new_id(Prefix.ACCOUNT)
LIMITED = Identity(Role.TENANT, ids.new_uuid(), "key_1", frozenset(), frozenset({MINE}))


def limit(method: str) -> AccountLimit:
    return AccountLimit.of(descriptor_pool.Default().FindMethodByName(f"sessionmesh.v1.{method}"))


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_limited_key_may_ask_about_its_accounts_alone(as_bytes: bool) -> None:
    method = limit("MessageService.GetMessage")
    mine, other = (message_pb2.GetMessageRequest(account_id=one) for one in (MINE, OTHER))
    given: Any = mine.SerializeToString() if as_bytes else mine
    assert method.applied(LIMITED, given) is given
    with pytest.raises(NotFound):
        method.applied(LIMITED, other.SerializeToString() if as_bytes else other)


def test_of_an_account_that_is_named_twice_the_last_one_counts() -> None:
    twice = b"".join(
        message_pb2.GetMessageRequest(account_id=one).SerializeToString() for one in (MINE, OTHER)
    )
    with pytest.raises(NotFound):
        limit("MessageService.GetMessage").applied(LIMITED, twice)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("WebhookService.ListEndpoints", webhook_pb2.ListEndpointsRequest()),
        ("AccountService.CreateAccount", account_pb2.CreateAccountRequest(request_id="1")),
        ("JobService.ListJobs", job_pb2.ListJobsRequest()),
    ],
)
def test_a_limited_key_may_not_ask_for_what_is_the_whole_tenants(method: str, request_: Message) -> None:
    with pytest.raises(PermissionDenied) as refused:
        limit(method).applied(LIMITED, request_)
    assert refused.value.reason == "SCOPE_MISSING"


def test_a_limited_key_may_ask_for_what_is_filtered() -> None:
    request = account_pb2.ListAccountsRequest()
    assert limit("AccountService.ListAccounts").applied(LIMITED, request) is request


async def test_of_an_upload_the_account_of_its_first_frame_counts() -> None:
    async def frames(account_id: str) -> AsyncIterator[media_pb2.UploadMediaRequest]:
        yield media_pb2.UploadMediaRequest(header=media_pb2.UploadHeader(account_id=account_id))
        yield media_pb2.UploadMediaRequest(chunk=b"x")

    upload = limit("MediaService.UploadMedia")
    read = [frame async for frame in upload.applied(LIMITED, frames(MINE))]
    assert [frame.WhichOneof("frame") for frame in read] == ["header", "chunk"]
    for account_id, error in ((OTHER, NotFound), ("", PermissionDenied)):
        with pytest.raises(error):
            [frame async for frame in upload.applied(LIMITED, frames(account_id))]
