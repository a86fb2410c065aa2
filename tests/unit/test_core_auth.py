"""Keys and identities: who is let in, and how often the database is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import (
    InvalidField,
    MeshError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from mesh_core.ids import Prefix
from mesh_core.rpc import auth
from mesh_core.rpc.auth import (
    TENANT_SCOPES,
    Identity,
    KeyAuthenticator,
    KeyRow,
    Role,
    assume,
    check_scope,
    current_identity,
    new_api_key,
    scope_names,
    scopes_of,
)
from mesh_core.rpc.auth.guesses import MAX_UNKNOWN, Guesses
from mesh_core.settings import AuthSettings
from sessionmesh.v1 import authorization_pb2 as proto

MESH_KEY = "mesh-" + "m" * 20
BOOTSTRAP_KEY = "boot-" + "b" * 20
TENANT = ids.new_uuid()
TENANT_ID = ids.encode(Prefix.TENANT, TENANT)
READ = frozenset({proto.SCOPE_READ})
HOUR = timedelta(hours=1)


class ClusterKeys:
    """The key table, in memory; `away` makes it fail, `gate` holds its answers back."""

    def __init__(self) -> None:
        self.rows: dict[UUID, KeyRow] = {}
        self.asked = 0
        self.away = False
        self.gate: Callable[[], Awaitable[object]] | None = None

    def add(self, role: Role = Role.TENANT) -> tuple[UUID, str]:
        key_id, secret, digest = new_api_key()
        self.rows[key_id] = KeyRow(role, TENANT if role is Role.TENANT else None, digest, READ)
        return key_id, f"Bearer {secret}"

    async def __call__(self, key_id: UUID) -> KeyRow | None:
        self.asked += 1
        if self.gate is not None:
            await self.gate()
        if self.away:
            raise ConnectionRefusedError
        return self.rows.get(key_id)


@pytest.fixture
def keys() -> ClusterKeys:
    return ClusterKeys()


@pytest.fixture
def authenticator(keys: ClusterKeys) -> KeyAuthenticator:
    return KeyAuthenticator(keys, AuthSettings(mesh_key=MESH_KEY, bootstrap_key=BOOTSTRAP_KEY))


@pytest.fixture
def always_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cached key is due to be looked up again."""
    for name in ("FRESH_SECONDS", "_FRESH_UNKNOWN", "_RETRY"):
        monkeypatch.setattr("mesh_core.rpc.auth.authenticator." + name, 0.0)


async def unknown(authenticator: KeyAuthenticator, source: str) -> str:
    return await reason(authenticator.authenticate(f"Bearer {new_api_key()[1]}", "", source))


async def reason(attempt: Awaitable[Identity]) -> str:
    with pytest.raises(MeshError) as refused:
        await attempt
    return refused.value.reason


async def test_a_tenants_key_gives_its_tenant_and_scopes(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    key_id, bearer = keys.add()
    identity = await authenticator.authenticate(bearer, "")
    assert identity.role is Role.TENANT
    assert identity.tenant_id == TENANT
    assert identity.key_id == ids.encode(Prefix.KEY, key_id)
    assert identity.scopes == READ | {proto.SCOPE_PUBLIC}


async def test_a_key_seen_before_is_known_without_waiting(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    assert authenticator.recall(bearer, "") is None
    identity = await authenticator.authenticate(bearer, "")
    assert authenticator.recall(bearer, "") is identity
    assert keys.asked == 1


async def test_callers_of_one_key_share_one_look_up(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    await asyncio.gather(*(authenticator.authenticate(bearer, "") for _ in range(50)))
    assert keys.asked == 1


async def test_a_caller_that_gives_up_does_not_take_the_look_up_from_the_others(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    release, asked = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await release.wait()

    keys.gate = hold
    impatient = asyncio.create_task(authenticator.authenticate(bearer, ""))
    patient = asyncio.create_task(authenticator.authenticate(bearer, ""))
    await asked.wait()
    impatient.cancel()
    release.set()
    assert (await patient).tenant_id == TENANT
    assert keys.asked == 1


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "smk_x"])
async def test_no_bearer_means_credentials_are_missing(authenticator: KeyAuthenticator, header: str) -> None:
    assert await reason(authenticator.authenticate(header, "")) == "CREDENTIALS_MISSING"


@pytest.mark.parametrize(
    "token",
    ["x", "nonsense", "smk_", "smk_a_b", "smk_" + "U" * 70, "smk_" + "0" * 26 + "-" + "a" * 43, "é" * 74],
)
async def test_what_cannot_be_a_key_is_refused_without_a_look_up(
    authenticator: KeyAuthenticator, keys: ClusterKeys, token: str
) -> None:
    assert await reason(authenticator.authenticate(f"Bearer {token}", "")) == "CREDENTIALS_INVALID"
    assert keys.asked == 0


async def test_an_unknown_key_is_refused_and_remembered_for_a_moment(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    bearer = f"Bearer {new_api_key()[1]}"
    for _ in range(3):
        assert await reason(authenticator.authenticate(bearer, "")) == "CREDENTIALS_INVALID"
    assert keys.asked == 1


async def test_a_wrong_secret_of_a_known_key_is_refused_without_a_look_up_each(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    key_id, bearer = keys.add()
    await authenticator.authenticate(bearer, "")
    wrong = f"Bearer {auth.new_secret(key_id)[0]}"
    for _ in range(5):
        assert await reason(authenticator.authenticate(wrong, "")) == "CREDENTIALS_INVALID"
    assert keys.asked == 2


async def test_a_key_without_its_checksum_is_refused_without_a_look_up(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    await authenticator.authenticate(bearer, "")
    for at in (-1, 40, 12):  # in the checksum, in the secret, in the id
        letter = "1" if bearer[at] != "1" else "2"
        changed = bearer[:at] + letter + (bearer[at + 1 :] if at != -1 else "")
        assert await reason(authenticator.authenticate(changed, "")) == "CREDENTIALS_INVALID"
    assert keys.asked == 1


async def test_an_address_that_tried_many_unknown_keys_is_not_looked_up_for_and_told_when_again(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    for _ in range(MAX_UNKNOWN):
        assert await unknown(authenticator, "192.0.2.1") == "CREDENTIALS_INVALID"
    with pytest.raises(ResourceExhausted) as refused:
        await authenticator.authenticate(f"Bearer {new_api_key()[1]}", "", "192.0.2.1")
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 60
    assert keys.asked == MAX_UNKNOWN


async def test_other_addresses_and_keys_in_use_do_not_suffer_from_an_address_that_guesses(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, in_use = keys.add()
    _, new = keys.add()
    await authenticator.authenticate(in_use, "", "192.0.2.1")
    for _ in range(MAX_UNKNOWN + 1):
        await unknown(authenticator, "192.0.2.1")
    assert (await authenticator.authenticate(in_use, "", "192.0.2.1")).tenant_id == TENANT
    assert (await authenticator.authenticate(new, "", "192.0.2.2")).tenant_id == TENANT
    assert await unknown(authenticator, "192.0.2.2") == "CREDENTIALS_INVALID"


async def test_keys_that_exist_are_no_guesses(authenticator: KeyAuthenticator, keys: ClusterKeys) -> None:
    for _ in range(MAX_UNKNOWN + 10):
        _, bearer = keys.add()
        assert (await authenticator.authenticate(bearer, "", "192.0.2.1")).tenant_id == TENANT


def test_the_memory_of_guessing_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_core.rpc.auth.guesses.MAX_ADDRESSES", 3)
    guesses = Guesses()
    for number in range(10):
        guesses.begin(f"192.0.2.{number}")
    assert len(guesses._windows) == 3


@pytest.mark.usefixtures("always_old")
async def test_a_rotated_secret_works_at_once_and_the_one_before_for_the_overlap(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    key_id, old = keys.add()
    await authenticator.authenticate(old, "")
    secret, digest = auth.new_secret(key_id)
    before = keys.rows[key_id]
    later = datetime.now(UTC) + HOUR
    keys.rows[key_id] = replace(before, hash=digest, earlier=((before.hash, later),))
    assert (await authenticator.authenticate(f"Bearer {secret}", "")).tenant_id == TENANT
    assert (await authenticator.authenticate(old, "")).tenant_id == TENANT
    keys.rows[key_id] = replace(keys.rows[key_id], earlier=((before.hash, later - 2 * HOUR),))
    assert await reason(authenticator.authenticate(old, "")) == "CREDENTIALS_INVALID"


async def test_a_new_secret_is_looked_up_although_the_old_one_is_fresh(
    authenticator: KeyAuthenticator, keys: ClusterKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.rpc.auth.authenticator._RETRY", 0.0)
    key_id, old = keys.add()
    await authenticator.authenticate(old, "")
    secret, digest = auth.new_secret(key_id)
    keys.rows[key_id] = replace(keys.rows[key_id], hash=digest)
    assert authenticator.recall(f"Bearer {secret}", "") is None
    monkeypatch.undo()
    assert (await authenticator.authenticate(f"Bearer {secret}", "")).tenant_id == TENANT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"revoked": True}, "CREDENTIALS_INVALID"),
        ({"expire_time": datetime(2020, 1, 1, tzinfo=UTC)}, "CREDENTIALS_INVALID"),
        ({"tenant_suspended": True}, "TENANT_SUSPENDED"),
    ],
)
@pytest.mark.usefixtures("always_old")
async def test_a_key_that_lost_its_right_is_refused_at_the_next_look_up(
    authenticator: KeyAuthenticator, keys: ClusterKeys, change: dict[str, object], expected: str
) -> None:
    key_id, bearer = keys.add()
    await authenticator.authenticate(bearer, "")
    keys.rows[key_id] = replace(keys.rows[key_id], **change)  # type: ignore[arg-type]  # fields by name
    assert await reason(authenticator.authenticate(bearer, "")) == expected


async def test_a_key_expires_while_it_is_cached(authenticator: KeyAuthenticator, keys: ClusterKeys) -> None:
    key_id, bearer = keys.add()
    soon = datetime.now(UTC) + timedelta(milliseconds=200)
    keys.rows[key_id] = replace(keys.rows[key_id], expire_time=soon)
    await authenticator.authenticate(bearer, "")
    async with asyncio.timeout(5):
        while True:
            try:
                assert authenticator.recall(bearer, "") is not None
            except Unauthenticated:
                break
            await asyncio.sleep(0)
    assert datetime.now(UTC) >= soon


@pytest.mark.usefixtures("always_old")
async def test_while_the_database_is_away_keys_seen_before_stay_good(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    await authenticator.authenticate(bearer, "")
    keys.away = True
    for _ in range(3):
        assert (await authenticator.authenticate(bearer, "")).tenant_id == TENANT
    assert authenticator.recall(bearer, "") is not None, (
        "nobody waits for a database that is known to be away"
    )


@pytest.mark.usefixtures("always_old")
async def test_when_the_database_is_back_a_revoked_key_is_noticed(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    key_id, bearer = keys.add()
    await authenticator.authenticate(bearer, "")
    keys.away = True
    await authenticator.authenticate(bearer, "")
    keys.away = False
    keys.rows[key_id] = replace(keys.rows[key_id], revoked=True)
    async with asyncio.timeout(5):
        while True:
            try:
                await authenticator.authenticate(bearer, "")
            except Unauthenticated:
                break
            await asyncio.sleep(0)


async def test_a_key_never_seen_is_unavailable_while_the_database_is_away_and_not_asked_for_again_at_once(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    keys.away = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            await authenticator.authenticate(bearer, "")
    assert keys.asked == 1


async def test_the_cache_is_bounded_and_keeps_real_keys(
    authenticator: KeyAuthenticator, keys: ClusterKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.rpc.auth.authenticator._REMEMBERED", 8)
    _, bearer = keys.add()
    await authenticator.authenticate(bearer, "")
    for _ in range(50):
        await reason(authenticator.authenticate(f"Bearer {new_api_key()[1]}", ""))
    assert authenticator.recall(bearer, "") is not None


async def test_the_bootstrap_key_is_an_administrators(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    identity = await authenticator.authenticate(f"Bearer {BOOTSTRAP_KEY}", "")
    assert identity.role is Role.ADMIN
    assert identity.tenant_id is None
    check_scope(identity, proto.SCOPE_OPERATOR)
    with pytest.raises(PermissionDenied):
        check_scope(identity, proto.SCOPE_MESH)
    assert keys.asked == 0


async def test_the_mesh_key_acts_for_the_tenant_that_it_names(authenticator: KeyAuthenticator) -> None:
    identity = await authenticator.authenticate(f"Bearer {MESH_KEY}", TENANT_ID)
    assert identity.role is Role.MESH
    assert identity.tenant_id == TENANT
    check_scope(identity, proto.SCOPE_MESH)
    assert (await authenticator.authenticate(f"Bearer {MESH_KEY}", "")).tenant_id is None


async def test_nobody_else_acts_for_the_tenant_that_it_names(
    authenticator: KeyAuthenticator, keys: ClusterKeys
) -> None:
    _, bearer = keys.add()
    other = ids.new_id(Prefix.TENANT)
    assert (await authenticator.authenticate(bearer, other)).tenant_id == TENANT
    assert (await authenticator.authenticate(f"Bearer {BOOTSTRAP_KEY}", other)).tenant_id is None


async def test_without_configured_keys_the_empty_key_opens_nothing(keys: ClusterKeys) -> None:
    authenticator = KeyAuthenticator(keys, AuthSettings())
    assert await reason(authenticator.authenticate("Bearer ", "")) == "CREDENTIALS_INVALID"


def identity(role: Role, tenant: UUID | None) -> Identity:
    return Identity(role, tenant, "key", READ)


def test_a_tenants_request_is_about_itself_and_may_say_so() -> None:
    own = identity(Role.TENANT, TENANT)
    assert own.tenant_for("") == TENANT
    assert own.tenant_for(TENANT_ID) == TENANT


def test_another_tenant_does_not_exist_for_a_tenants_key() -> None:
    own = identity(Role.TENANT, TENANT)
    with pytest.raises(NotFound):
        own.tenant_for(ids.new_id(Prefix.TENANT))
    assert not own.sees(ids.new_uuid())
    with pytest.raises(NotFound):
        own.check_sees(ids.new_uuid(), "account", "acc_1")
    own.check_sees(TENANT, "account", "acc_1")


def test_an_administrator_must_name_the_tenant() -> None:
    admin = identity(Role.ADMIN, None)
    with pytest.raises(InvalidField, match="tenant_id"):
        admin.tenant_for("")
    with pytest.raises(InvalidField):
        admin.tenant_for("nonsense")
    assert admin.tenant_for(TENANT_ID) == TENANT
    assert admin.sees(TENANT)


def test_scopes_are_stored_by_name_and_unknown_names_grant_nothing() -> None:
    assert scope_names(TENANT_SCOPES) == ["MANAGE", "READ", "SEND", "TENANT_ADMIN"]
    assert scopes_of(["READ", "SEND", "OPERATOR", "MESH", "NEW"]) == {proto.SCOPE_READ, proto.SCOPE_SEND}


async def test_the_identity_belongs_to_the_task() -> None:
    async def serve(caller: Identity) -> Identity:
        assume(caller)
        return current_identity()

    assume(None)
    callers = [identity(Role.TENANT, ids.new_uuid()) for _ in range(3)]
    served = await asyncio.gather(*(asyncio.create_task(serve(caller)) for caller in callers))
    assert served == callers
    with pytest.raises(Unauthenticated):
        current_identity()
