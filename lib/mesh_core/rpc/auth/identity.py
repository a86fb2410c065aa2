"""Who calls, and what they may do."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import InvalidField, NotFound, PermissionDenied, Unauthenticated
from mesh_core.ids import Prefix
from sessionmesh.v1 import authorization_pb2
from sessionmesh.v1.authorization_pb2 import Scope

TENANT_SCOPES = frozenset(
    {
        authorization_pb2.SCOPE_READ,
        authorization_pb2.SCOPE_SEND,
        authorization_pb2.SCOPE_MANAGE,
        authorization_pb2.SCOPE_TENANT_ADMIN,
    }
)
"""What a tenant's key may be given."""

ADMIN_SCOPES = TENANT_SCOPES | {authorization_pb2.SCOPE_PUBLIC, authorization_pb2.SCOPE_OPERATOR}
"""What an administrator's key may do."""

MESH_SCOPES = ADMIN_SCOPES | {authorization_pb2.SCOPE_MESH}
"""What the mesh's own parts may do."""


BOOTSTRAP_KEY_ID = "bootstrap"
"""`Identity.key_id` of the administrator's key that the settings name."""


class Role(IntEnum):
    """Whose key it is; the numbers are stored in `api_key.role`."""

    TENANT = 1
    ADMIN = 2
    MESH = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller. `tenant_id` is None for administrators and for mesh parts that act for nobody.

    `account_ids` are the accounts (`acc_...`) that the key is limited to; None: it is not limited.
    `calls_per_second` is the limit that the tenant's settings give it, None where they give none.
    """

    role: Role
    tenant_id: UUID | None
    key_id: str
    scopes: frozenset[Scope.ValueType]
    account_ids: frozenset[str] | None = None
    calls_per_second: int | None = None

    def tenant_for(self, explicit: str, field: str = "tenant_id") -> UUID:
        """The tenant that a request is about, by its `explicit` field, which administrators must fill.

        Raises `NotFound` when a tenant's key names another tenant, `InvalidField` when an administrator names
        none.
        """
        if self.tenant_id is None:
            if not explicit:
                raise InvalidField(field, "is required with an administrator's key")
            return ids.decode(Prefix.TENANT, explicit, field)
        if explicit and ids.decode(Prefix.TENANT, explicit, field) != self.tenant_id:
            raise NotFound("tenant", explicit)
        return self.tenant_id

    def sees(self, tenant: UUID) -> bool:
        """Whether that tenant's resources exist for this caller."""
        return self.tenant_id is None or self.tenant_id == tenant

    def sees_account(self, account_id: str) -> bool:
        """Whether the key is good for that account, if it is one of its tenant's."""
        return self.account_ids is None or account_id in self.account_ids

    @property
    def account_uuids(self) -> list[UUID] | None:
        """`account_ids` as a query takes them."""
        if self.account_ids is None:
            return None
        return [ids.decode(Prefix.ACCOUNT, account, "account_ids") for account in sorted(self.account_ids)]

    def check_sees(self, tenant: UUID, resource: str, name: str) -> None:
        """Raise `NotFound` for `resource` (a kind) `name` when it is another tenant's."""
        if not self.sees(tenant):
            raise NotFound(resource, name)


def current_identity() -> Identity:
    """Who makes the call that this task serves; raises `Unauthenticated` in a public method."""
    identity = _identity.get()
    if identity is None:
        raise Unauthenticated("the call has no identity", "CREDENTIALS_MISSING")
    return identity


def calling_tenant() -> UUID | None:
    """Whose call this task serves, an administrator's as `OPERATOR`; None: nobody's, but the process' own
    work, or another part's of the mesh.
    """
    identity = _identity.get()
    if identity is None:
        return None
    return OPERATOR if identity.role is Role.ADMIN else identity.tenant_id


def assume(identity: Identity | None) -> None:
    """Make `identity` the caller for the rest of this task, as the chassis does for every call."""
    _identity.set(identity)


def check_scope(identity: Identity, scope: Scope.ValueType) -> None:
    """Raise `PermissionDenied` when the identity's key lacks `scope`."""
    if scope not in identity.scopes:
        name = Scope.Name(scope).removeprefix("SCOPE_")
        raise PermissionDenied(f"the key lacks the scope {name}", "SCOPE_MISSING", metadata={"scope": name})


OPERATOR = UUID(bytes(16))
"""Stands for administrators, where tenants share something."""
_identity: ContextVar[Identity | None] = ContextVar("identity", default=None)
