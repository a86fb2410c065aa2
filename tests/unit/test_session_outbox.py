"""The order in which an account's messages go out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from mesh_core.ids import new_uuid
from mesh_session_node.outbound.outbox import Outbox
from mesh_session_node.outbound.outgoing import Outgoing

HIGH, NORMAL, LOW = 1, 2, 3
NOW = 1000.0


def message(
    chat: str = "phone:+491", order: int = NORMAL, due: float | None = None, expire: float | None = None
) -> Outgoing:
    return cast(Outgoing, SimpleNamespace(uuid=new_uuid(), chat=chat, order=order, due=due, expire=expire))


def drain(outbox: Outbox, now: float = NOW) -> list[Any]:
    out = []
    while (found := outbox.pop(now)) is not None:
        out.append(found)
    return out


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([HIGH, NORMAL, LOW])), max_size=50)
)
def test_priorities_go_first_and_a_chat_keeps_its_order_within_one(entries: list[tuple[str, int]]) -> None:
    outbox = Outbox()
    messages = [message(chat, order) for chat, order in entries]
    for each in messages:
        outbox.push(each, NOW)
    assert drain(outbox) == sorted(messages, key=lambda each: (each.order, each.uuid.bytes))
    assert len(outbox) == 0


def test_a_message_that_comes_back_takes_its_old_place() -> None:
    outbox = Outbox()
    messages = [message() for _ in range(4)]
    for each in messages:
        outbox.push(each, NOW)
    first, second = outbox.pop(NOW), outbox.pop(NOW)
    assert first is not None
    assert second is not None
    outbox.push(second, NOW)
    outbox.push(first, NOW)
    assert drain(outbox) == messages


def test_a_scheduled_message_waits_until_it_is_due() -> None:
    outbox = Outbox()
    later, now = message(due=NOW + 10), message()
    outbox.push(later, NOW)
    outbox.push(now, NOW)
    assert drain(outbox) == [now]
    assert outbox.next_due() == NOW + 10
    assert drain(outbox, NOW + 10) == [later]


def test_a_held_chat_waits_and_the_others_go_on() -> None:
    outbox = Outbox()
    held = [message("a"), message("a")]
    other = message("b")
    for each in (*held, other):
        outbox.push(each, NOW)
    outbox.hold("a")
    assert drain(outbox) == [other]
    outbox.unhold("a", NOW)
    assert drain(outbox) == held


def test_a_withdrawn_message_never_goes_out() -> None:
    outbox = Outbox()
    kept, withdrawn, scheduled = message(), message(), message(due=NOW + 1)
    for each in (kept, withdrawn, scheduled):
        outbox.push(each, NOW)
    assert outbox.remove(withdrawn.uuid) is withdrawn
    assert outbox.remove(withdrawn.uuid) is None
    outbox.remove(scheduled.uuid)
    assert outbox.next_due() is None
    assert drain(outbox, NOW + 2) == [kept]


def test_expired_messages_are_taken_out() -> None:
    outbox = Outbox()
    kept, expired = message(expire=NOW + 1), message(expire=NOW)
    outbox.push(kept, NOW)
    outbox.push(expired, NOW)
    assert outbox.take_expired(NOW) == [expired]
    assert drain(outbox) == [kept]
