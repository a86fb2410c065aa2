"""Which methods are noted, and what a call of one was about: read from its request and its answer, by the
names of their fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from mesh_core import ids
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Identity
from sessionmesh.v1 import authorization_pb2

SCOPES = frozenset(
    {
        authorization_pb2.SCOPE_MANAGE,
        authorization_pb2.SCOPE_TENANT_ADMIN,
        authorization_pb2.SCOPE_OPERATOR,
    }
)
"""Calls that need one of these and are not without effect are noted. What goes out through an account is not:
its messages and events tell of it.
"""
PACKAGES = ("sessionmesh.v1", "sessionmesh.admin.v1")
MAX_TEXT = 255
"""Characters of one text of a record; of a status' message as well."""
MAX_FIELDS = 64
"""Of an update mask."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A call that ended. Texts are cut to what is kept, and hold no character that Postgres refuses.

    `id` is a UUIDv7 of the time of the end. `tenant` is None where the call says nothing of it: then it is
    its account's, or nobody's. `key_id` is "" when the caller had no valid key. `status` is a serialised
    google.rpc.Status, and `code` the code in it, 0 for OK. `changed_fields` has a line for each.
    """

    id: UUID
    tenant: UUID | None
    account: UUID | None
    key_id: str
    method: str
    resource: str
    changed_fields: str
    code: int
    status: bytes
    source: str
    request_id: str
    user_agent: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class AuditedCall:
    """A method whose calls are noted."""

    path: str
    request: type[Message] | None
    """None: its requests are a stream, and nothing is read from them."""
    response: type[Message] | None
    """None: its answers are a stream."""

    @classmethod
    def of(cls, method: MethodDescriptor) -> Self | None:
        """None for a method whose calls are not noted."""
        options = method.GetOptions()
        scope = options.Extensions[authorization_pb2.scope]
        service = method.containing_service
        changes = options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS
        if scope not in SCOPES or not changes or service.file.package not in PACKAGES:
            return None
        return cls(
            f"/{service.full_name}/{method.name}",
            None if method.client_streaming else GetMessageClass(method.input_type),
            None if method.server_streaming else GetMessageClass(method.output_type),
        )

    def record(
        self,
        identity: Identity | None,
        request: object,
        answer: object,
        status: status_pb2.Status,
        metadata: Iterable[tuple[str, Any]] | None,
        source: str,
        traceparent: str,
    ) -> AuditRecord:
        """A call that has ended. Of a caller without a valid key only the method is noted: nobody has read
        more of what a stranger sent. `request` and `answer` are bytes or messages.
        """
        asked = _read(self.request, request) if identity is not None else None
        answered = _read(self.response, answer) if identity is not None else None
        resource = _resource(asked) or _resource(answered)
        account_id = _text(asked, "account_id") or (resource if resource.startswith("acc_") else "")
        tenant = None if identity is None else identity.tenant_id
        if tenant is None:
            tenant_id = next(filter(None, (_text(asked, "tenant_id"), _tenant_of(answered))), "")
            tenant = uuid_of(Prefix.TENANT, tenant_id or (resource if resource.startswith("tnt_") else ""))
        mask = getattr(asked, "update_mask", None)
        status.message = status.message[:MAX_TEXT]
        agent = next((value for key, value in metadata or () if key == "user-agent"), "")
        return AuditRecord(
            id=ids.new_uuid(),
            tenant=tenant,
            account=uuid_of(Prefix.ACCOUNT, account_id),
            key_id="" if identity is None else identity.key_id,
            method=self.path,
            resource=_fit(resource),
            changed_fields="" if mask is None else "\n".join(map(_fit, mask.paths[:MAX_FIELDS])),
            code=status.code,
            status=status.SerializeToString(),
            source=source,
            request_id=_fit(_text(asked, "request_id"))[:64],
            user_agent=_fit(str(agent)),
            traceparent=traceparent,
        )


def uuid_of(prefix: Prefix, text: str) -> UUID | None:
    """The UUID of an id; None for none, and for what is no id of that kind."""
    try:
        return ids.decode(prefix, text, "") if text else None
    except InvalidField:
        return None


def _read(kind: type[Message] | None, given: object) -> Message | None:
    if isinstance(given, Message):
        return given
    if kind is None or not isinstance(given, bytes):
        return None
    try:
        return kind.FromString(given)
    except DecodeError:  # it was refused as that
        return None


def _resource(message: Message | None) -> str:
    """The first id that a message names beside account and tenant; else that of what is in it."""
    if message is None:
        return ""
    inside = ""
    for field, value in message.ListFields():
        if field.is_repeated:
            continue
        if field.message_type is not None:
            inside = inside or _own_id(value)
        elif isinstance(value, str) and _names_resource(field.name):
            return value
    if not inside and "Tenant" in message.DESCRIPTOR.name:  # such as DeleteTenant
        return _text(message, "tenant_id")
    return inside


def _names_resource(field: str) -> bool:
    return field == "name" or (field.endswith("_id") and field not in _NOT_RESOURCES)


def _own_id(message: Message) -> str:
    return _text(message, "id") or _text(message, "name")


def _tenant_of(answered: Message | None) -> str:
    """The tenant that the thing in an answer says it is of."""
    if answered is None:
        return ""
    things = (value for field, value in answered.ListFields() if field.message_type and not field.is_repeated)
    return next(filter(None, (_text(thing, "tenant_id") for thing in things)), "")


def _text(message: Message | None, field: str) -> str:
    value = getattr(message, field, "")
    return value if isinstance(value, str) else ""


def _fit(text: str) -> str:
    """What a text's column takes."""
    return text.replace("\0", "").replace("\n", " ")[:MAX_TEXT]


_NOT_RESOURCES = frozenset({"account_id", "tenant_id", "request_id", "external_id", "replacement_node_id"})
