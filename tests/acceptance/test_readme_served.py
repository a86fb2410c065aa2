"""README's table of calls that are not served is true of a running mesh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

import mesh_client  # noqa: F401 - it imports every service's module, so that their descriptors are known
from tests.support.mesh_api import refusal_of
from tests.support.mesh_process import MeshProcess

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PACKAGES = ("sessionmesh/v1", "sessionmesh/admin/v1", "sessionmesh/simulator/v1")
ACCOUNT = "acc_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def services() -> dict[str, list[MethodDescriptor]]:
    """The methods of every service of the public packages, by its name."""
    pool = descriptor_pool.Default()
    return {
        service.name: list(service.methods)
        for package in PACKAGES
        for proto in sorted((ROOT / "protos" / package).glob("*.proto"))
        if "\nservice " in proto.read_text()
        for service in pool.FindFileByName(f"{package}/{proto.name}").services_by_name.values()
    }


def claimed_not_served() -> set[str]:
    """`Service/Method` of every call that README says is not served."""
    rows = re.findall(r"^\| (\w+Service) \| (.+) \|$", README.read_text(), re.MULTILINE)
    claimed: set[str] = set()
    for service, calls in rows:
        names = calls.split(", ") if calls != "all" else [method.name for method in services()[service]]
        claimed.update(f"{service}/{name}" for name in names)
    return claimed


async def is_served(channel: grpc.aio.Channel, key: str, method: MethodDescriptor) -> bool:
    """Calls the method with nothing but an account; a refusal for another reason means that it is served."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    takes_account = "account_id" in method.input_type.fields_by_name
    request = b"\x0a" + bytes([len(ACCOUNT)]) + ACCOUNT.encode() if takes_account else b""
    metadata = (("authorization", f"Bearer {key}"), ("x-account-id", ACCOUNT))
    multi: Any = channel.stream_stream(path)
    call = multi(iter([request]), metadata=metadata, timeout=20)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason != "NOT_SERVED"
    call.cancel()
    return True


@pytest.mark.parametrize("service", services())
async def test_calls_are_served_or_listed_as_not(mesh: MeshProcess, service: str) -> None:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        not_served = {
            f"{service}/{method.name}"
            for method in services()[service]
            if not await is_served(channel, mesh.file.admin_key, method)
        }
    assert not_served == {name for name in claimed_not_served() if name.startswith(f"{service}/")}
