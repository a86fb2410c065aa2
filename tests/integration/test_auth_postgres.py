"""Keys and sealed secrets in the real tables."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.errors import PermissionDenied, Unauthenticated
from mesh_core.rpc.auth import KeyAuthenticator, Role, api_key_lookup, new_api_key, new_secret
from mesh_core.sealing import PostgresDataKeys, Sealer
from mesh_core.settings import AuthSettings, DatabaseSettings, SecretsSettings
from sessionmesh.v1 import authorization_pb2

HOUR = timedelta(hours=1)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    yield database
    database.pool.terminate()


@pytest.fixture
async def tenant(database: Database) -> UUID:
    tenant = ids.new_uuid()
    await database.pool.execute("INSERT INTO tenant (id, external_id) VALUES ($1, 'acme')", tenant)
    return tenant


@pytest.fixture
def authenticator(database: Database, monkeypatch: pytest.MonkeyPatch) -> KeyAuthenticator:
    """Looks a key up for every call, so that changes show at once."""
    for name in ("FRESH_SECONDS", "_FRESH_UNKNOWN", "_RETRY"):
        monkeypatch.setattr("mesh_core.rpc.auth.authenticator." + name, 0.0)
    return KeyAuthenticator(api_key_lookup(database), AuthSettings())


async def add_key(database: Database, tenant: UUID | None, role: Role = Role.TENANT) -> tuple[UUID, str]:
    key_id, secret, digest = new_api_key()
    await database.pool.execute(
        "INSERT INTO api_key (id, tenant, hash, scopes, role) VALUES ($1, $2, $3, $4, $5)",
        key_id,
        tenant,
        digest,
        ["READ", "SEND"],
        role,
    )
    return key_id, f"Bearer {secret}"


async def test_a_stored_key_gives_its_tenant_and_scopes(
    database: Database, tenant: UUID, authenticator: KeyAuthenticator
) -> None:
    _, bearer = await add_key(database, tenant)
    identity = await authenticator.authenticate(bearer, "")
    assert (identity.role, identity.tenant_id) == (Role.TENANT, tenant)
    assert authorization_pb2.SCOPE_SEND in identity.scopes
    assert authorization_pb2.SCOPE_MANAGE not in identity.scopes


async def test_a_stored_administrators_key_operates(
    database: Database, authenticator: KeyAuthenticator
) -> None:
    _, bearer = await add_key(database, None, Role.ADMIN)
    identity = await authenticator.authenticate(bearer, "")
    assert (identity.role, identity.tenant_id) == (Role.ADMIN, None)
    assert authorization_pb2.SCOPE_OPERATOR in identity.scopes


async def test_a_look_up_notes_the_use(
    database: Database, tenant: UUID, authenticator: KeyAuthenticator
) -> None:
    key_id, bearer = await add_key(database, tenant)
    await authenticator.authenticate(bearer, "")
    first = await database.pool.fetchval("SELECT last_use_time FROM api_key WHERE id = $1", key_id)
    assert first is not None
    await authenticator.authenticate(bearer, "")
    assert await database.pool.fetchval("SELECT last_use_time FROM api_key WHERE id = $1", key_id) == first


async def test_a_rotated_secret_and_the_one_before_work_for_the_overlap(
    database: Database, tenant: UUID, authenticator: KeyAuthenticator
) -> None:
    key_id, old = await add_key(database, tenant)
    secret, digest = new_secret(key_id)
    await database.pool.execute(
        "UPDATE api_key SET previous_hash = hash, previous_expire_time = $2, hash = $3 WHERE id = $1",
        key_id,
        datetime.now(UTC) + HOUR,
        digest,
    )
    assert (await authenticator.authenticate(f"Bearer {secret}", "")).tenant_id == tenant
    assert (await authenticator.authenticate(old, "")).tenant_id == tenant


async def test_a_revoked_key_is_refused(
    database: Database, tenant: UUID, authenticator: KeyAuthenticator
) -> None:
    key_id, bearer = await add_key(database, tenant)
    await authenticator.authenticate(bearer, "")
    await database.pool.execute("UPDATE api_key SET revoke_time = now() WHERE id = $1", key_id)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(bearer, "")


async def test_the_keys_of_a_suspended_tenant_are_refused(
    database: Database, tenant: UUID, authenticator: KeyAuthenticator
) -> None:
    _, bearer = await add_key(database, tenant)
    await database.pool.execute("UPDATE tenant SET state = 2 WHERE id = $1", tenant)
    with pytest.raises(PermissionDenied) as refused:
        await authenticator.authenticate(bearer, "")
    assert refused.value.reason == "TENANT_SUSPENDED"


async def test_with_the_database_gone_a_key_seen_before_stays_good(
    database: Database, tenant: UUID, authenticator: KeyAuthenticator
) -> None:
    _, bearer = await add_key(database, tenant)
    await authenticator.authenticate(bearer, "")
    database.pool.terminate()
    assert (await authenticator.authenticate(bearer, "")).tenant_id == tenant


async def test_data_keys_are_kept_rotated_and_rewrapped(database: Database, tenant: UUID) -> None:
    old, new = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
    sealer = Sealer(PostgresDataKeys(database), SecretsSettings(master_key=old))
    await sealer.load(tenant)
    blob = sealer.seal(tenant, b"credentials")
    assert await sealer.rotate(tenant) == 2
    both = Sealer(PostgresDataKeys(database), SecretsSettings(master_key=new, previous_master_keys=(old,)))
    assert await both.rewrap(tenant) == 2
    alone = Sealer(PostgresDataKeys(database), SecretsSettings(master_key=new))
    assert await alone.open(tenant, blob) == b"credentials"
