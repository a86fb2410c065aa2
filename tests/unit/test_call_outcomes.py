"""What callers are told of what a network refuses: each reason its own error."""

from __future__ import annotations

import pytest

from mesh_core.errors import FailedPrecondition, NotFound, ResourceExhausted
from mesh_session_node.calls.outcomes import error_of, lacking
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.drivers.simulated.asking import refused as refused_by_simulated
from mesh_session_node.drivers.whatsapp_web.calling import refused as refused_by_whatsapp_web
from sessionmesh.internal.v1 import linked_device_pb2 as device
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import errors_pb2

REASONS = {
    Refusal.UNKNOWN_MESSAGE: "RESOURCE_NOT_FOUND",
    Refusal.UNKNOWN_CHAT: "RESOURCE_NOT_FOUND",
    Refusal.UNKNOWN_PERSON: "UNKNOWN_PERSON",
    Refusal.NOT_A_MEMBER: "NOT_A_MEMBER",
    Refusal.NOT_AN_ADMIN: "NOT_AN_ADMIN",
    Refusal.NOT_ALLOWED_BY_PERSON: "NOT_ALLOWED_BY_PERSON",
    Refusal.FULL: "GROUP_FULL",
    Refusal.INVITE_ENDED: "INVITE_ENDED",
    Refusal.TOO_LATE: "TOO_LATE",
    Refusal.RESTRICTED: "RESTRICTED",
    Refusal.RATE_LIMITED: "RATE_LIMITED",
    Refusal.OTHER: "REFUSED_BY_NETWORK",
}


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_each_refusal_has_an_error_of_the_api(refusal: Refusal) -> None:
    error = error_of(Refused(refusal, "the network's words"), "M1")
    assert error.reason == REASONS[refusal]
    assert f"ERROR_REASON_{error.reason}" in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
    assert isinstance(error, NotFound | ResourceExhausted | FailedPrecondition)
    assert "M1" in str(error) if isinstance(error, NotFound) else "the network's words" in str(error)


def test_a_limit_says_when_to_try_again() -> None:
    named = error_of(Refused(Refusal.RATE_LIMITED, retry_after=30.0), "M1")
    unnamed = error_of(Refused(Refusal.RATE_LIMITED), "M1")
    assert (named.retry_after, unnamed.retry_after) == (30.0, 1.0)


def test_what_a_network_lacks_says_so() -> None:
    assert lacking("status posts").reason == "UNSUPPORTED_BY_NETWORK"


def test_every_reason_of_the_simulated_network_is_known() -> None:
    told = {refused_by_simulated(wire.QueryError(reason=reason)).refusal for reason in _reasons()}
    assert told == set(Refusal) - {Refusal.OTHER}


def test_every_refusal_of_the_sidecar_is_known() -> None:
    told = {
        refused_by_whatsapp_web(device.DeviceCallResult(refusal=refusal)).refusal
        for refusal in device.DeviceRefusal.values()
        if refusal
    }
    assert told == set(Refusal)


def test_what_later_versions_say_is_some_refusal() -> None:
    later = wire.QueryError(reason=99, message="new")  # type: ignore[arg-type]  # a number of later
    assert refused_by_simulated(later).refusal is Refusal.OTHER


def _reasons() -> list[wire.QueryErrorReason.ValueType]:
    malformed = wire.QUERY_ERROR_REASON_MALFORMED  # the driver's own fault: anything else
    return [reason for reason in wire.QueryErrorReason.values() if reason and reason != malformed]
