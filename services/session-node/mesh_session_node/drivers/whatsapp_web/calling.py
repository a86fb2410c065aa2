"""Calls that the sidecar answers."""

from __future__ import annotations

from collections.abc import Mapping

from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.drivers.whatsapp_web.encoding import seconds
from sessionmesh.internal.v1 import linked_device_pb2 as pb


class Calling:
    """What the actions need of the link."""

    __slots__ = ()
    history_seconds: float
    """How long the phone may take to say what it has of a chat."""

    async def call(self, call: pb.DeviceCall) -> pb.DeviceCallResult:
        """What the sidecar answers. Raises `Refused`, `ConnectionEnded`, `TimeoutError`."""
        raise NotImplementedError


def refused(result: pb.DeviceCallResult) -> Refused:
    """What the network says of a call that it refused."""
    return Refused(refusal_of(result.refusal), result.error, seconds(result.retry_after))


def refusal_of(refusal: pb.DeviceRefusal.ValueType) -> Refusal:
    """Why the network refused something."""
    return _REFUSALS.get(refusal, Refusal.OTHER)


_REFUSALS: Mapping[pb.DeviceRefusal.ValueType, Refusal] = {
    pb.DEVICE_REFUSAL_UNKNOWN_MESSAGE: Refusal.UNKNOWN_MESSAGE,
    pb.DEVICE_REFUSAL_UNKNOWN_CHAT: Refusal.UNKNOWN_CHAT,
    pb.DEVICE_REFUSAL_UNKNOWN_PERSON: Refusal.UNKNOWN_PERSON,
    pb.DEVICE_REFUSAL_NOT_A_MEMBER: Refusal.NOT_A_MEMBER,
    pb.DEVICE_REFUSAL_NOT_AN_ADMIN: Refusal.NOT_AN_ADMIN,
    pb.DEVICE_REFUSAL_NOT_ALLOWED_BY_PERSON: Refusal.NOT_ALLOWED_BY_PERSON,
    pb.DEVICE_REFUSAL_FULL: Refusal.FULL,
    pb.DEVICE_REFUSAL_INVITE_ENDED: Refusal.INVITE_ENDED,
    pb.DEVICE_REFUSAL_TOO_LATE: Refusal.TOO_LATE,
    pb.DEVICE_REFUSAL_RESTRICTED: Refusal.RESTRICTED,
    pb.DEVICE_REFUSAL_RATE_LIMITED: Refusal.RATE_LIMITED,
}
