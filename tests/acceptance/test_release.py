"""`mesh restore --release` brings online what a restore has paused, and nobody has spoken for since."""

from __future__ import annotations

import asyncio

import asyncpg
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_core import ids
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix
from sessionmesh.v1 import account_pb2
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess, run_mesh_here

PAUSED = account_pb2.DESIRED_STATE_PAUSED


async def test_who_is_paused_again_by_its_owner_stays_paused(mesh: MeshProcess, tenant: Tenant) -> None:
    accounts = [await tenant.caller.new_account() for _ in range(2)]
    waiting, spoken_for = (account.id for account in accounts)
    connection = await asyncpg.connect(mesh.file.servers["MESH_DATABASE_URL"])
    for account in (waiting, spoken_for):
        await pause(tenant.caller, account)
        await connection.execute(
            "INSERT INTO account_record (account, kind, key, value, time)"
            " VALUES ($1, $2, 'restored', '', now())",
            ids.decode(Prefix.ACCOUNT, account, "account"),
            RecordKind.RESTORED,
        )
    await connection.close()
    await pause(tenant.caller, spoken_for)

    command = ("--state", str(mesh.state), "restore", "--release")
    released = await asyncio.to_thread(run_mesh_here, *command)
    assert released.exit_code == 0, released.output
    assert "1 accounts are online again" in released.stdout
    assert await state(tenant.caller, waiting) == account_pb2.DESIRED_STATE_ONLINE
    assert await state(tenant.caller, spoken_for) == PAUSED
    again = await asyncio.to_thread(run_mesh_here, *command)
    assert "0 accounts are online again" in again.stdout


async def pause(caller: Caller, account: str) -> None:
    request = account_pb2.UpdateAccountRequest(
        account_id=account,
        account=account_pb2.Account(desired_state=PAUSED),
        update_mask=FieldMask(paths=["desired_state"]),
    )
    await caller(caller.accounts.UpdateAccount, request)


async def state(caller: Caller, account: str) -> int:
    get = account_pb2.GetAccountRequest(account_id=account)
    return int((await caller(caller.accounts.GetAccount, get)).account.desired_state)
