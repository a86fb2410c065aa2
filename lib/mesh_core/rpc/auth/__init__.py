"""Who calls: API keys, the identity that they give, and what it may do.

Callers send their key as metadata `authorization: Bearer <key>`.
"""

from mesh_core.rpc.auth.account_limit import AccountLimit
from mesh_core.rpc.auth.authenticator import Authenticator, KeyAuthenticator
from mesh_core.rpc.auth.identity import (
    TENANT_SCOPES,
    Identity,
    Role,
    assume,
    calling_tenant,
    check_scope,
    current_identity,
)
from mesh_core.rpc.auth.keys import (
    KeyRow,
    Lookup,
    account_names,
    api_key_lookup,
    earlier_secrets,
    new_api_key,
    new_secret,
    scope_names,
    scopes_of,
)

__all__ = [
    "TENANT_SCOPES",
    "AccountLimit",
    "Authenticator",
    "Identity",
    "KeyAuthenticator",
    "KeyRow",
    "Lookup",
    "Role",
    "account_names",
    "api_key_lookup",
    "assume",
    "calling_tenant",
    "check_scope",
    "current_identity",
    "earlier_secrets",
    "new_api_key",
    "new_secret",
    "scope_names",
    "scopes_of",
]
