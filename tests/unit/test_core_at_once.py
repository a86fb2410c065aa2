"""So much of a kind under way for each tenant, and no more."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mesh_core.at_once import AtOnce
from mesh_core.errors import ResourceExhausted
from mesh_core.ids import new_uuid

TENANT = new_uuid()


@pytest.fixture
def two() -> AtOnce:
    return AtOnce(2, "searches", "searches", 1.5)


def test_a_tenant_has_so_many_and_another_has_its_own(two: AtOnce) -> None:
    with ExitStack() as running:
        for _ in range(2):
            running.enter_context(two.one(TENANT))
        with pytest.raises(ResourceExhausted) as caught, two.one(TENANT):
            pass
        assert (caught.value.reason, caught.value.quota) == ("RATE_LIMITED", "searches")
        assert caught.value.retry_after == 1.5
        with two.one(new_uuid()):
            pass


def test_one_that_ends_well_or_badly_makes_room(two: AtOnce) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), two.one(TENANT):
            raise KeyError
        with two.one(TENANT):
            pass


def test_nothing_is_kept_of_a_tenant_that_has_none(two: AtOnce) -> None:
    with two.one(TENANT):
        pass
    assert not two._running
