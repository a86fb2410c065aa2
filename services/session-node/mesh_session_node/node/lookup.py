"""The account that a call is about: its session here, or who owns it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from grpc.aio import ServicerContext

from mesh_core.errors import FailedPrecondition, InvalidArgument, NotFound, NotOwner
from mesh_core.etcd import EtcdUnavailable
from mesh_core.ids import Prefix, decode, shard_of
from mesh_core.ownership.keys import OwnerKey
from mesh_core.rpc.auth import current_identity
from mesh_session_node.account.session import Session
from mesh_session_node.node.forwarding import ShardOwners, settled_owner
from mesh_session_node.node.loader import AccountLoader
from mesh_session_node.node.registry import Registry


class NodeOwnership(ShardOwners, Protocol):
    """What the node needs of `mesh_core.ownership.participant.Ownership`."""

    def epoch(self, shard: int) -> int | None: ...
    def owner(self, shard: int) -> OwnerKey | None: ...
    async def ask_owner(self, shard: int) -> OwnerKey | None: ...
    def fence_refused(self, shards: Collection[int]) -> None: ...


class AccountLookup:
    """Finds sessions for calls; loads accounts that were made since their shard came."""

    def __init__(
        self,
        node_id: str,
        registry: Registry,
        loader: AccountLoader,
        ownership: NodeOwnership,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_id = node_id
        self._registry = registry
        self._sessions = registry.sessions
        self._loader = loader
        self._ownership = ownership
        self._clock = clock
        self._verified_until: dict[int, float] = {}

    async def for_call(self, metadata: Iterable[tuple[str, str | bytes]] | None, account_id: str) -> Session:
        """The session that a unary call is about, if its caller may see the account.

        Raises as `find` does, and `InvalidArgument` ACCOUNT_MISMATCH.
        """
        epoch = routed_epoch(metadata, account_id)
        session = await self.visible(account_id)
        if epoch > session.context.ref.epoch:
            await self._verify(session.context.ref.shard, session.context.ref.epoch)
        return session

    async def for_stream(self, context: ServicerContext[Any, Any], account_id: str) -> Session:
        """The same for a stream, which is not forwarded to the owner: while its account changes hands it
        waits, as a unary call does, and is then served here, or refused with the new owner's name.
        """
        while True:
            try:
                return await self.for_call(context.invocation_metadata(), account_id)
            except NotOwner as refused:
                owner = await settled_owner(self._ownership, self._node_id, refused, context.time_remaining())
                if owner.node_id != self._node_id:
                    raise NotOwner(owner.node_id, owner.epoch, shard=refused.shard) from None

    async def visible(self, account_id: str) -> Session:
        """`find`, for the current caller: another tenant's account does not exist, nor does one that the key
        is not good for.
        """
        identity = current_identity()
        if not identity.sees_account(account_id):
            raise NotFound("account", account_id)
        session = self._sessions.get(account_id)
        if session is None or session.account.deleted:
            session = await self.find(account_id)
        else:
            self.check_owner(session.context.ref.shard)
        identity.check_sees(session.context.ref.tenant, "account", account_id)
        return session

    async def find(self, account_id: str) -> Session:
        """An account's session. Raises `InvalidField`, `NotOwner`, `NotFound`, and `FailedPrecondition`
        RESOURCE_DELETED.
        """
        uuid = decode(Prefix.ACCOUNT, account_id, "account_id")
        shard = shard_of(account_id)
        self.check_owner(shard)
        loading = self._registry.loading.get(shard)
        if loading is not None:
            await asyncio.shield(loading)
            self.check_owner(shard)
        session = self._sessions.get(account_id)
        if session is None:
            await self._loader.load_account(account_id, uuid)
            self.check_owner(shard)
            session = self._sessions.get(account_id)
            if session is None:
                raise self.not_owner(shard)
        if session.account.deleted:
            raise FailedPrecondition("the account is deleted", "RESOURCE_DELETED")
        return session

    def check_owner(self, shard: int) -> None:
        """Raise `NotOwner` for a shard that may not begin new work here."""
        if not self._ownership.admits(shard):
            raise self.not_owner(shard)

    def not_owner(self, shard: int) -> NotOwner:
        """The error that tells a caller where to go."""
        owner = self._ownership.owner(shard)
        if owner is None or owner.node == self._node_id:
            return NotOwner(shard=shard)
        return NotOwner(owner.node, owner.epoch, shard=shard)

    def refused(self, session: Session) -> NotOwner:
        """The fence has refused a write: another node has the shard. The error for the caller."""
        shard = session.context.ref.shard
        self._ownership.fence_refused([shard])
        return self.not_owner(shard)

    async def _verify(self, shard: int, epoch: int) -> None:
        """A call was routed by a newer epoch than ours: ask etcd for the owner, once a second at most."""
        now = self._clock()
        if now < self._verified_until.get(shard, 0.0):
            return
        self._verified_until[shard] = now + _VERIFIED_SECONDS
        try:
            owner = await self._ownership.ask_owner(shard)
        except EtcdUnavailable:
            return  # what we hold does not depend on etcd
        if owner is not None and owner.epoch > epoch and owner.node != self._node_id:
            raise NotOwner(owner.node, owner.epoch, shard=shard)


def routed_epoch(metadata: Iterable[tuple[str, str | bytes]] | None, account_id: str) -> int:
    """The owner's epoch that a call was routed by; 0 where it names none, or nothing that could be one.

    The account that it was routed by must be the one that it is about: raises `InvalidArgument`
    ACCOUNT_MISMATCH.
    """
    epoch = 0
    for key, value in metadata or ():
        if key == "x-account-id" and value != account_id:
            raise InvalidArgument(
                "account_id: the metadata x-account-id names another account", "ACCOUNT_MISMATCH"
            )
        if key == "x-google-rls-data" and (named := _named_epoch(str(value))):
            epoch = int(named[1])
    return epoch


_named_epoch = re.compile(r"epoch=([0-9]{1,18})").fullmatch
_VERIFIED_SECONDS = 1.0
