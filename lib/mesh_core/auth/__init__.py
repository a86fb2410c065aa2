"""Who calls: API keys, the identity that they give, and what it may do.

Callers send their key as metadata `authorization: Bearer <key>`.
"""

from mesh_core.auth.authenticator import Authenticator, KeyAuthenticator
from mesh_core.auth.identity import TENANT_SCOPES, Identity, Role, assume, check_scope, current_identity
from mesh_core.auth.keys import (
    KeyRow,
    Lookup,
    new_api_key,
    new_secret,
    postgres_keys,
    scope_names,
    scopes_of,
)

__all__ = [
    "TENANT_SCOPES",
    "Authenticator",
    "Identity",
    "KeyAuthenticator",
    "KeyRow",
    "Lookup",
    "Role",
    "assume",
    "check_scope",
    "current_identity",
    "new_api_key",
    "new_secret",
    "postgres_keys",
    "scope_names",
    "scopes_of",
]
