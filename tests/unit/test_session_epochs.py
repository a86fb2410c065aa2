"""Callers that were routed by an epoch newer than the node's own: the node may be the one that is stale."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from mesh_core.errors import InvalidArgument, NotOwner
from mesh_core.etcd import EtcdUnavailable
from mesh_core.ids import Prefix, new_id, shard_of
from mesh_core.ownership.keys import OwnerKey, OwnerState
from mesh_core.rpc.auth import Identity, Role, assume
from mesh_session_node.node.lookup import AccountLookup, routed_epoch
from mesh_session_node.node.registry import Registry

ACCOUNT = new_id(Prefix.ACCOUNT)
SHARD = shard_of(ACCOUNT)
OURS = 5


class Ownership:
    """Holds the shard at epoch 5; `answer` is what etcd says, or why it does not."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: OwnerKey | EtcdUnavailable | None = None

    def admits(self, _shard: int) -> bool:
        return True

    async def ask_owner(self, shard: int) -> OwnerKey | None:
        assert shard == SHARD
        self.asked += 1
        if isinstance(self.answer, EtcdUnavailable):
            raise self.answer
        return self.answer


@pytest.fixture
def ownership() -> Ownership:
    return Ownership()


@pytest.fixture
def lookup(ownership: Ownership) -> AccountLookup:
    assume(Identity(Role.ADMIN, None, "test", frozenset()))
    registry = Registry(MagicMock())
    session = MagicMock(id=ACCOUNT)
    session.account.deleted = False
    session.context.ref.shard, session.context.ref.epoch = SHARD, OURS
    registry.sessions[ACCOUNT] = session
    return AccountLookup("node-1", registry, MagicMock(), cast("Any", ownership))  # only what calls ask of it


def routed_by(epoch: int) -> list[tuple[str, str | bytes]]:
    return [("x-google-rls-data", f"epoch={epoch}")]


def key_of(node: str, epoch: int) -> OwnerKey:
    return OwnerKey(
        incarnation=f"{node}-1", node=node, address=f"{node}:1", state=OwnerState.ACTIVE, epoch=epoch
    )


@pytest.mark.parametrize("epoch", [1, OURS])
async def test_an_epoch_up_to_the_nodes_own_is_served_at_once(
    lookup: AccountLookup, ownership: Ownership, epoch: int
) -> None:
    await lookup.for_call(routed_by(epoch), ACCOUNT)
    assert ownership.asked == 0


async def test_a_newer_epoch_that_etcd_confirms_is_refused(
    lookup: AccountLookup, ownership: Ownership
) -> None:
    ownership.answer = key_of("node-2", 6)
    with pytest.raises(NotOwner) as refused:
        await lookup.for_call(routed_by(6), ACCOUNT)
    assert (refused.value.owner, refused.value.epoch, refused.value.shard) == ("node-2", 6, SHARD)


async def test_a_forged_epoch_changes_nothing_and_asks_etcd_once_a_second_at_most(
    lookup: AccountLookup, ownership: Ownership
) -> None:
    ownership.answer = key_of("node-1", OURS)
    for epoch in range(100, 200):
        await lookup.for_call(routed_by(epoch), ACCOUNT)
    assert ownership.asked == 1


async def test_a_newer_epoch_is_served_while_etcd_is_away(
    lookup: AccountLookup, ownership: Ownership
) -> None:
    ownership.answer = EtcdUnavailable("away")
    await lookup.for_call(routed_by(6), ACCOUNT)
    assert ownership.asked == 1


def test_a_header_that_names_another_account_is_refused() -> None:
    routed_epoch((("x-account-id", "a"), ("other", "b")), "a")
    with pytest.raises(InvalidArgument) as refused:
        routed_epoch((("x-account-id", "b"),), "a")
    assert refused.value.reason == "ACCOUNT_MISMATCH"


@pytest.mark.parametrize(
    ("header", "epoch"),
    [("epoch=17", 17), ("epoch=", 0), ("epoch=-3", 0), ("epoch=" + "9" * 19, 0), ("17", 0), ("", 0)],
)
def test_the_epoch_that_a_call_was_routed_by_is_read_from_its_header(header: str, epoch: int) -> None:
    assert routed_epoch((("x-google-rls-data", header),), "a") == epoch
