"""Sealing of credentials: AES-256-GCM with a data key per tenant, which the cluster's master key encrypts.

A sealed blob is the byte 1, the data key's version (4 bytes), a nonce (12), and the ciphertext with its tag
(16). The tenant and the caller's `context`, which names what the secret belongs to, are authenticated too: a
blob that was copied to another row does not open. Both kinds of key can be rotated: a tenant gets a new
version of its data key, while blobs of older ones still open; the master key is changed with `rewrap`.
"""

from __future__ import annotations

import base64
import os
from hashlib import sha256

from asyncpg.pgproto.pgproto import UUID
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh_core.sealing.data_keys import KeyStore, WrappedKey
from mesh_core.settings import SecretsSettings


class CannotUnseal(Exception):
    """A blob or data key does not open: it was altered or moved, or its master key is not in the settings."""


class KeyNotLoaded(Exception):
    """The tenant's keys, or that version, are not in memory: `await Sealer.load(tenant)` first."""


class Sealer:
    """Seals and opens with cached keys. `seal` and `unseal` are synchronous; `load` the tenant first."""

    def __init__(self, store: KeyStore, settings: SecretsSettings) -> None:
        self._store = store
        masters = [base64.b64decode(text) for text in (settings.master_key, *settings.previous_master_keys)]
        self._master = _key_id(masters[0])
        self._masters = {_key_id(key): AESGCM(key) for key in masters}
        self._tenants: dict[UUID, dict[int, AESGCM]] = {}
        self._newest: dict[UUID, int] = {}

    def loaded(self, tenant: UUID) -> bool:
        """Whether `seal` can be called."""
        return tenant in self._newest

    async def load(self, tenant: UUID) -> None:
        """Reads the tenant's keys, also versions that are new since the last time; makes the first one."""
        stored = await self._store.fetch(tenant)
        if not stored:
            await self._store.add(tenant, self._make(tenant, 1))
            stored = await self._store.fetch(tenant)  # another process may have been first
        self._tenants[tenant] = {key.version: AESGCM(self._unwrap(tenant, key)) for key in stored}
        self._newest[tenant] = max(key.version for key in stored)

    def seal(self, tenant: UUID, plain: bytes, context: bytes = b"") -> bytes:
        """`plain` encrypted with the newest key that is loaded; raises `KeyNotLoaded`."""
        version = self._newest.get(tenant)
        if version is None:
            raise KeyNotLoaded(f"the keys of tenant {tenant} are not loaded")
        head = _FORMAT + version.to_bytes(4, "big")
        nonce = os.urandom(_NONCE)
        sealed = self._tenants[tenant][version].encrypt(nonce, plain, _bind(head, tenant, context))
        return head + nonce + sealed

    def unseal(self, tenant: UUID, blob: bytes, context: bytes = b"") -> bytes:
        """What was sealed; raises `KeyNotLoaded` for a version not loaded, else `CannotUnseal`."""
        head, nonce, sealed = blob[:5], blob[5 : 5 + _NONCE], blob[5 + _NONCE :]
        if head[:1] != _FORMAT or len(sealed) < _TAG:
            raise CannotUnseal("the blob is not of a known form")
        key = self._tenants.get(tenant, {}).get(int.from_bytes(head[1:], "big"))
        if key is None:
            raise KeyNotLoaded(f"version {int.from_bytes(head[1:], 'big')} of tenant {tenant} is not loaded")
        try:
            return key.decrypt(nonce, sealed, _bind(head, tenant, context))
        except InvalidTag:
            raise CannotUnseal("the blob was altered or belongs elsewhere") from None

    async def open(self, tenant: UUID, blob: bytes, context: bytes = b"") -> bytes:
        """Like `unseal`, loading what is missing."""
        try:
            return self.unseal(tenant, blob, context)
        except KeyNotLoaded:
            await self.load(tenant)
        try:
            return self.unseal(tenant, blob, context)
        except KeyNotLoaded as error:
            raise CannotUnseal(str(error)) from None

    async def rotate(self, tenant: UUID) -> int:
        """Makes a new data key that seals from now on; returns its version.

        Other processes seal with it after their next `load`.
        """
        await self.load(tenant)
        await self._store.add(tenant, self._make(tenant, self._newest[tenant] + 1))
        await self.load(tenant)
        return self._newest[tenant]

    async def rewrap(self, tenant: UUID) -> int:
        """Encrypts the tenant's data keys with the present master key; returns how many had another one."""
        stale = [key for key in await self._store.fetch(tenant) if key.wrapped[1:9] != self._master]
        for key in stale:
            wrapped = self._wrap(tenant, key.version, self._unwrap(tenant, key))
            await self._store.replace(tenant, wrapped)
        return len(stale)

    def _make(self, tenant: UUID, version: int) -> WrappedKey:
        return self._wrap(tenant, version, AESGCM.generate_key(256))

    def _wrap(self, tenant: UUID, version: int, key: bytes) -> WrappedKey:
        head = _FORMAT + self._master
        nonce = os.urandom(_NONCE)
        bound = _bind(head, tenant, version.to_bytes(4, "big"))
        return WrappedKey(version, head + nonce + self._masters[self._master].encrypt(nonce, key, bound))

    def _unwrap(self, tenant: UUID, key: WrappedKey) -> bytes:
        head, nonce, sealed = key.wrapped[:9], key.wrapped[9 : 9 + _NONCE], key.wrapped[9 + _NONCE :]
        master = self._masters.get(head[1:])
        if head[:1] != _FORMAT or master is None:
            raise CannotUnseal(f"version {key.version} of tenant {tenant} needs a master key that is not set")
        try:
            return master.decrypt(nonce, sealed, _bind(head, tenant, key.version.to_bytes(4, "big")))
        except InvalidTag:
            raise CannotUnseal(f"version {key.version} of tenant {tenant} was altered") from None


def master_key_id(master_key: str) -> str:
    """What is stored of a master key (base64) with all that it wraps: eight bytes in hexadecimal, which do
    not reveal it.
    """
    return _key_id(base64.b64decode(master_key)).hex()


_FORMAT = b"\x01"
_NONCE = 12
_TAG = 16


def _key_id(key: bytes) -> bytes:
    """Eight bytes that identify a master key without revealing it."""
    return sha256(b"sessionmesh master key" + key).digest()[:8]


def _bind(head: bytes, tenant: UUID, context: bytes) -> bytes:
    return head + tenant.bytes + context
