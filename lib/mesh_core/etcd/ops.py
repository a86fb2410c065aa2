"""Builders for the parts of a transaction, which may have at most `MAX_OPERATIONS` operations."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_wire.etcd import rpc_pb2 as wire

MAX_OPERATIONS = 128
"""etcd's default limit (`--max-txn-ops`)."""


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def absent(key: bytes) -> wire.Compare:
    """`key` does not exist."""
    return wire.Compare(result=wire.Compare.EQUAL, target=wire.Compare.CREATE, key=key, create_revision=0)


def unchanged(key: bytes, mod_revision: int) -> wire.Compare:
    """`key` was last written at `mod_revision` (0: it does not exist)."""
    return wire.Compare(
        result=wire.Compare.EQUAL, target=wire.Compare.MOD, key=key, mod_revision=mod_revision
    )


def put(key: bytes, value: bytes, lease: int = 0) -> wire.RequestOp:
    return wire.RequestOp(request_put=wire.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes) -> wire.RequestOp:
    return wire.RequestOp(request_range=wire.RangeRequest(key=key))


def delete(key: bytes) -> wire.RequestOp:
    return wire.RequestOp(request_delete_range=wire.DeleteRangeRequest(key=key))


def nested(
    compare: Sequence[wire.Compare], success: Sequence[wire.RequestOp], failure: Sequence[wire.RequestOp] = ()
) -> wire.RequestOp:
    """A transaction inside another: it chooses by its own comparisons and commits with the outer one.

    Its operations count towards the outer one's limit.
    """
    return wire.RequestOp(request_txn=wire.TxnRequest(compare=compare, success=success, failure=failure))
