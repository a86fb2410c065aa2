"""Which status may follow which: one table for the journal, the database and the API's comment."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.database import migrations
from mesh_core.message_status import FOLLOWING, WAITING, comment, may_become, same_for_all, sql_function
from sessionmesh.v1 import message_pb2 as pb

ROOT = Path(__file__).parents[2]
ALL = [status for status in pb.MessageStatus.values() if status]
STATUSES = st.sampled_from(ALL)


def after(old: int, changes: list[int]) -> int:
    """Where a message stands after these changes, of which those that are not legal are ignored."""
    for new in changes:
        old = new if may_become(old, new) else old
    return old


@given(STATUSES)
def test_no_status_becomes_itself_or_queued_again(status: int) -> None:
    assert not may_become(status, status)
    assert not may_become(status, pb.MESSAGE_STATUS_QUEUED)


@pytest.mark.parametrize("status", [s for s in ALL if s < 100], ids=pb.MessageStatus.Name)
def test_progress_only_rises(status: int) -> None:
    assert all(new > status for new in FOLLOWING.get(status, ()))


@pytest.mark.parametrize(
    "status",
    [pb.MESSAGE_STATUS_CANCELLED, pb.MESSAGE_STATUS_EXPIRED, pb.MESSAGE_STATUS_FAILED],
    ids=pb.MessageStatus.Name,
)
def test_what_has_ended_stays_so(status: int) -> None:
    assert not any(may_become(status, new) for new in ALL)


def test_what_is_in_doubt_can_only_be_settled() -> None:
    settled = {new for new in ALL if may_become(pb.MESSAGE_STATUS_IN_DOUBT, new)}
    assert settled == {*FOLLOWING[pb.MESSAGE_STATUS_SENT], pb.MESSAGE_STATUS_SENT}


def test_a_network_may_refuse_what_it_has_taken() -> None:
    assert may_become(pb.MESSAGE_STATUS_SENT, pb.MESSAGE_STATUS_FAILED)
    assert not may_become(pb.MESSAGE_STATUS_DELIVERED, pb.MESSAGE_STATUS_FAILED)


def test_a_message_is_withdrawn_only_before_anybody_has_it() -> None:
    for status in (pb.MESSAGE_STATUS_CANCELLED, pb.MESSAGE_STATUS_EXPIRED):
        assert [old for old in ALL if may_become(old, status)] == [pb.MESSAGE_STATUS_QUEUED]


def test_what_may_follow_later_may_follow_at_once() -> None:
    """So that several changes can be stored as the last of them."""
    for old, between, new in product(ALL, ALL, ALL):
        if may_become(old, between) and may_become(between, new):
            assert may_become(old, new)


@given(STATUSES, STATUSES, STATUSES)
def test_a_change_that_means_nothing_behind_another_can_be_left_out(old: int, kept: int, new: int) -> None:
    if same_for_all(kept, new):
        assert after(old, [kept, new]) == after(old, [kept])


def test_only_waiting_messages_stand_in_the_outbox() -> None:
    assert set(WAITING) == {pb.MESSAGE_STATUS_QUEUED, pb.MESSAGE_STATUS_SENDING}
    files = (Path(migrations.__file__).parent / "versions").glob("*.sql")
    newest = [path.read_text() for path in sorted(files) if "DELETE FROM outbox" in path.read_text()][-1]
    assert f"s.status NOT IN ({', '.join(map(str, WAITING))})" in newest


def test_the_databases_function_is_made_from_the_table() -> None:
    files = (Path(migrations.__file__).parent / "versions").glob("*.sql")
    newest = [path.read_text() for path in sorted(files) if "FUNCTION message_may_become" in path.read_text()]
    assert sql_function() in newest[-1]


def test_the_apis_comment_is_made_from_the_table() -> None:
    proto = (ROOT / "protos/sessionmesh/v1/message.proto").read_text()
    above = proto[: proto.index("enum MessageStatus")].rpartition("\n\n")[2]
    table = re.findall(r"^//   (\S.*)$", above, re.MULTILINE)
    assert table == comment()
