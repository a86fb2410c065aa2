"""Sealing: what opens, what does not, and how keys change."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.sealing import CannotUnseal, KeyNotLoaded, Sealer, WrappedKey
from mesh_core.settings import SecretsSettings


def master(letter: bytes) -> str:
    return base64.b64encode(letter * 32).decode()


class MemoryKeys:
    def __init__(self) -> None:
        self.kept: dict[tuple[UUID, int], bytes] = {}

    async def fetch(self, tenant: UUID) -> Sequence[WrappedKey]:
        return [WrappedKey(version, key) for (owner, version), key in self.kept.items() if owner == tenant]

    async def add(self, tenant: UUID, key: WrappedKey) -> None:
        self.kept.setdefault((tenant, key.version), key.wrapped)

    async def replace(self, tenant: UUID, key: WrappedKey) -> None:
        self.kept[tenant, key.version] = key.wrapped


TENANT = ids.new_uuid()
OTHER = ids.new_uuid()


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def sealer(keys: MemoryKeys) -> Sealer:
    return Sealer(keys, SecretsSettings(master_key=master(b"a")))


async def test_what_was_sealed_opens_in_another_process(sealer: Sealer, keys: MemoryKeys) -> None:
    await sealer.load(TENANT)
    blob = sealer.seal(TENANT, b"credentials", b"account")
    another = Sealer(keys, SecretsSettings(master_key=master(b"a")))
    assert await another.open(TENANT, blob, b"account") == b"credentials"
    assert b"credentials" not in blob


async def test_sealing_twice_gives_two_blobs(sealer: Sealer) -> None:
    await sealer.load(TENANT)
    assert sealer.seal(TENANT, b"x") != sealer.seal(TENANT, b"x")


async def test_sealing_needs_the_tenant_to_be_loaded(sealer: Sealer) -> None:
    assert not sealer.loaded(TENANT)
    with pytest.raises(KeyNotLoaded):
        sealer.seal(TENANT, b"x")


async def test_a_blob_moved_to_another_row_or_tenant_does_not_open(sealer: Sealer) -> None:
    await sealer.load(TENANT)
    await sealer.load(OTHER)
    blob = sealer.seal(TENANT, b"x", b"account 1")
    with pytest.raises(CannotUnseal):
        sealer.unseal(TENANT, blob, b"account 2")
    with pytest.raises(CannotUnseal):
        sealer.unseal(OTHER, blob, b"account 1")


async def test_no_byte_of_a_blob_can_be_changed(sealer: Sealer) -> None:
    await sealer.load(TENANT)
    blob = sealer.seal(TENANT, b"x")
    for at in range(len(blob)):
        with pytest.raises(CannotUnseal):
            await sealer.open(TENANT, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
    for cut in range(len(blob)):
        with pytest.raises(CannotUnseal):
            await sealer.open(TENANT, blob[:cut])


async def test_after_rotation_old_blobs_open_and_new_ones_use_the_new_key(
    sealer: Sealer, keys: MemoryKeys
) -> None:
    await sealer.load(TENANT)
    before = sealer.seal(TENANT, b"old")
    late = Sealer(keys, SecretsSettings(master_key=master(b"a")))
    await late.load(TENANT)
    assert await sealer.rotate(TENANT) == 2
    after = sealer.seal(TENANT, b"new")
    assert after[1:5] == (2).to_bytes(4, "big")
    assert sealer.unseal(TENANT, before) == b"old"
    assert await late.open(TENANT, after) == b"new", "a process that has not seen the rotation learns of it"


async def test_two_processes_that_make_the_first_key_agree_on_one(keys: MemoryKeys) -> None:
    first = Sealer(keys, SecretsSettings(master_key=master(b"a")))
    second = Sealer(keys, SecretsSettings(master_key=master(b"a")))
    await first.load(TENANT)
    await second.load(TENANT)
    assert second.unseal(TENANT, first.seal(TENANT, b"x")) == b"x"


async def test_after_rewrapping_the_old_master_key_is_not_needed(sealer: Sealer, keys: MemoryKeys) -> None:
    await sealer.load(TENANT)
    blob = sealer.seal(TENANT, b"x")
    both = Sealer(keys, SecretsSettings(master_key=master(b"b"), previous_master_keys=(master(b"a"),)))
    assert await both.open(TENANT, blob) == b"x"
    assert await both.rewrap(TENANT) == 1
    assert await both.rewrap(TENANT) == 0
    new_only = Sealer(keys, SecretsSettings(master_key=master(b"b")))
    assert await new_only.open(TENANT, blob) == b"x"


async def test_without_its_master_key_a_data_key_does_not_open(sealer: Sealer, keys: MemoryKeys) -> None:
    await sealer.load(TENANT)
    with pytest.raises(CannotUnseal, match="master key that is not set"):
        await Sealer(keys, SecretsSettings(master_key=master(b"b"))).load(TENANT)


async def test_a_data_key_moved_to_another_tenant_does_not_open(sealer: Sealer, keys: MemoryKeys) -> None:
    await sealer.load(TENANT)
    keys.kept[OTHER, 1] = keys.kept[TENANT, 1]
    with pytest.raises(CannotUnseal):
        await sealer.load(OTHER)
