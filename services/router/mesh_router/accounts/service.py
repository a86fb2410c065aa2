"""AccountService as gRPC serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.database.requests import Method, claim_request, request_digest
from mesh_core.errors import AlreadyExists, FailedPrecondition, InvalidField, NotFound, ResourceExhausted
from mesh_core.ids import Prefix
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.server.parsing import parsed
from mesh_router.accounts import store
from mesh_router.accounts.fields import (
    CHANGEABLE,
    SendCeilingSettings,
    account_message,
    check_ceiling,
    checked,
    stored_driver,
)
from mesh_router.accounts.owner_notifier import OwnerNotifier
from mesh_router.accounts.store import AccountFilter, Connection
from mesh_router.fleet.admission import Admission, Reservation
from sessionmesh.v1 import account_pb2, account_pb2_grpc


class AccountService(account_pb2_grpc.AccountServiceServicer):
    """Accounts of tenants. `events_committed` is called after each change, which wrote an event."""

    def __init__(
        self,
        database: Database,
        pager: Pager,
        owners: OwnerNotifier,
        events_committed: Callable[[], None],
        admission: Admission,
        ceiling: SendCeilingSettings,
        default_driver: str,
    ) -> None:
        self._callers = database.callers
        self._pager = pager
        self._owners = owners
        self._events_committed = events_committed
        self._admission = admission
        self._ceiling = ceiling
        self._default_driver = default_driver

    async def CreateAccount(
        self, request: account_pb2.CreateAccountRequest, context: Any
    ) -> account_pb2.CreateAccountResponse:
        request_id = validation.request_id(request.request_id)
        fields = checked(request.account, self._default_driver)
        self._check_ceiling(request.account)
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        account = ids.new_uuid()
        shard = ids.shard_of(ids.encode(Prefix.ACCOUNT, account))
        async with self._changing(locks=tenant) as (connection, reservation):
            quota = await store.lock_quota(connection, tenant)
            if quota is None:
                raise NotFound("tenant", request.tenant_id)
            first = await claim_request(
                connection, tenant, Method.CREATE_ACCOUNT, request_id, request_digest(request), account
            )
            if first is not None:
                row = _visible(await store.get(connection, first), ids.encode(Prefix.ACCOUNT, first))
                return account_pb2.CreateAccountResponse(account=account_message(row))
            await _check_room(connection, tenant, quota)
            if fields.desired_state == account_pb2.DESIRED_STATE_ONLINE:
                reservation.reserve()
            try:
                inserted = await store.insert(connection, account, tenant, shard, fields)
            except asyncpg.UniqueViolationError:
                raise _external_id_taken(fields.external_id) from None
            message = account_message(_visible(inserted, ""))
            await store.insert_event(connection, "account.created", tenant, account, message)
        await self._changed(message)
        return account_pb2.CreateAccountResponse(account=message)

    def _check_ceiling(self, account: account_pb2.Account) -> None:
        """Tenants cannot give themselves what the operator has not left them."""
        if current_identity().tenant_id is not None:
            check_ceiling(account.send_limits, self._ceiling)

    async def GetAccount(
        self, request: account_pb2.GetAccountRequest, context: Any
    ) -> account_pb2.GetAccountResponse:
        pool = self._callers.of(current_identity().tenant_id)
        if not request.external_id:
            found = await store.get(pool, _account(request.account_id))
        elif request.account_id:
            raise InvalidField("external_id", "must not be given beside account_id")
        else:
            tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
            external_id = validation.text("external_id", request.external_id)
            found = await store.find(pool, tenant, external_id)
        row = _visible(found, request.account_id or request.external_id)
        return account_pb2.GetAccountResponse(account=account_message(row))

    async def list_accounts(self, raw: bytes, context: Any) -> bytes:
        """ListAccounts, from bytes to bytes."""
        request = parsed(account_pb2.ListAccountsRequest.FromString, raw)
        identity = current_identity()
        everyone = identity.tenant_id is None and not request.tenant_id
        tenant = None if everyone else UUID(identity.tenant_for(request.tenant_id).bytes)
        page = self._pager.page(request, tenant.bytes if tenant else b"")
        wanted = AccountFilter(
            tenant,
            identity.account_uuids,
            validation.labels("labels", request.labels),
            stored_driver(request.driver) if request.driver else None,
            request.show_deleted,
        )
        caller = identity.tenant_id
        read = partial(store.page, self._callers.of(caller), wanted)
        return await self._pager.answer(page, caller, read, account_message, account_pb2.ListAccountsResponse)

    async def UpdateAccount(
        self, request: account_pb2.UpdateAccountRequest, context: Any
    ) -> account_pb2.UpdateAccountResponse:
        account = _account(request.account_id)
        paths = validation.field_mask(request.update_mask, CHANGEABLE)
        fields = checked(request.account, self._default_driver)
        if "send_limits" in paths:
            self._check_ceiling(request.account)
        async with self._changing() as (connection, reservation):
            row = _visible(await store.lock(connection, account), request.account_id)
            if row["delete_time"] is not None:
                raise FailedPrecondition(f"account {request.account_id} is deleted", "RESOURCE_DELETED")
            validation.check_etag(request.account.etag, row["version"])
            if "phone" in paths and row["paired_phone"] not in (None, fields.phone):
                raise FailedPrecondition("a paired account keeps its number", "ALREADY_PAIRED")
            if "desired_state" in paths and _goes_online(row["desired_state"], fields.desired_state):
                reservation.reserve()
            message = account_message(await store.update(connection, row, fields, paths))
            await store.insert_event(connection, "account.updated", row["tenant"], account, message)
        await self._changed(message)
        return account_pb2.UpdateAccountResponse(account=message)

    async def DeleteAccount(
        self, request: account_pb2.DeleteAccountRequest, context: Any
    ) -> account_pb2.DeleteAccountResponse:
        account = _account(request.account_id)
        async with self._callers.of(current_identity().tenant_id).transaction() as connection:
            row = _visible(await store.lock(connection, account), request.account_id)
            if row["delete_time"] is not None:  # a retry
                return account_pb2.DeleteAccountResponse(account=account_message(row))
            validation.check_etag(request.etag, row["version"])
            message = account_message(await store.delete(connection, account))
            await store.insert_event(connection, "account.deleted", row["tenant"], account, message)
        await self._changed(message)
        return account_pb2.DeleteAccountResponse(account=message)

    async def UndeleteAccount(
        self, request: account_pb2.UndeleteAccountRequest, context: Any
    ) -> account_pb2.UndeleteAccountResponse:
        account = _account(request.account_id)
        # The tenant is locked before the account, as CreateAccount does, and its id never changes.
        pool = self._callers.of(current_identity().tenant_id)
        tenant = _visible(await store.get(pool, account), request.account_id)["tenant"]
        async with self._changing(locks=tenant) as (connection, reservation):
            quota = await store.lock_quota(connection, tenant)
            row = _visible(await store.lock(connection, account), request.account_id)
            if row["delete_time"] is None:  # a retry
                return account_pb2.UndeleteAccountResponse(account=account_message(row))
            await _check_room(connection, row["tenant"], quota or 0)
            if row["desired_state"] == account_pb2.DESIRED_STATE_ONLINE:
                reservation.reserve()
            try:
                message = account_message(await store.undelete(connection, account))
            except asyncpg.UniqueViolationError:
                raise _external_id_taken(row["external_id"]) from None
            await store.insert_event(connection, "account.updated", row["tenant"], account, message)
        await self._changed(message)
        return account_pb2.UndeleteAccountResponse(account=message)

    @asynccontextmanager
    async def _changing(self, locks: UUID | None = None) -> AsyncIterator[tuple[Connection, Reservation]]:
        """A transaction, and a reservation in the fleet that is undone when the transaction fails. `locks` is
        the tenant whose row it will lock.
        """
        caller = current_identity().tenant_id
        if locks is None:
            transaction = self._callers.of(caller).transaction()
        else:
            transaction = self._callers.locking(locks, caller)
        with self._admission.reservation() as reservation:
            async with transaction as connection:
                yield connection, reservation

    async def _changed(self, account: account_pb2.Account) -> None:
        self._events_committed()
        await self._owners.changed(account.id)


def _account(account_id: str) -> UUID:
    return ids.decode(Prefix.ACCOUNT, validation.required_text("account_id", account_id), "account_id")


def _visible(row: asyncpg.Record | None, name: str) -> asyncpg.Record:
    """The account, if the caller may see it: administrators see all, tenants their own, and keys that are
    limited to accounts only these. Raises `NotFound`.
    """
    identity = current_identity()
    if row is None or not identity.sees_account(ids.encode(Prefix.ACCOUNT, row["id"])):
        raise NotFound("account", name)
    identity.check_sees(row["tenant"], "account", name)
    return row


async def _check_room(connection: Connection, tenant: UUID, quota: int) -> None:
    if not await store.has_room(connection, tenant, quota):
        raise ResourceExhausted(
            f"the tenant may have {quota} accounts", "QUOTA_EXCEEDED", quota="max_accounts"
        )


def _goes_online(before: int, after: int) -> bool:
    online = account_pb2.DESIRED_STATE_ONLINE
    return before != online and after == online


def _external_id_taken(external_id: str | None) -> AlreadyExists:
    name = external_id or ""
    return AlreadyExists(
        f"an account with external_id {name} exists", "RESOURCE_EXISTS", resource="account", name=name
    )
