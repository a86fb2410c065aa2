"""Votes are counted by person, whatever they are known by when they vote."""

from __future__ import annotations

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.content import Identity, Reference
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.incoming import ADA, TIME, incoming
from tests.support.memory_host import OneAccount

GROUP, HIDDEN = "group:1", "hidden:77"
BOTH = Identity(phone=ADA.removeprefix("phone:"), user_id="4915100000009", hidden_id="77")
POLL = content_pb2.PollContent(question="Tea?", answers=["yes", "no"])


async def vote(account: OneAccount, answer: str, sender: str, identity: Identity | None, second: int) -> None:
    said = content_pb2.Content(poll_vote=content_pb2.PollVoteContent(answers=[answer]))
    account.driver.link.receive(
        incoming(
            content=said,
            network_id=f"VOTE{second}",
            chat=GROUP,
            sender=sender,
            identity=identity,
            target=Reference("POLL", GROUP, ADA),
            time=TIME + second,
        )
    )
    await account.settle()
    await account.journal.commit()
    await account.settle()


def totals(account: OneAccount) -> dict[str, int]:
    poll = pb.Message.FromString(account.messages.rows[0]["content"]).content.poll
    return {total.answer: total.votes for total in poll.totals}


def with_poll(account: OneAccount) -> None:
    stored = pb.Message(content=content_pb2.Content(poll=POLL), sender=Person(address=ADA))
    account.messages.add(new_uuid(), "POLL", pb.DIRECTION_INBOUND, stored.SerializeToString(), GROUP)


async def test_whose_number_is_learnt_between_two_votes_is_counted_once(account: OneAccount) -> None:
    await account.connected()
    with_poll(account)

    await vote(account, "yes", HIDDEN, None, 1)
    await vote(account, "no", ADA, BOTH, 2)
    await vote(account, "yes", ADA, BOTH, 3)

    assert totals(account) == {"yes": 1, "no": 0}


async def test_a_vote_under_an_earlier_name_that_comes_late_changes_nothing(account: OneAccount) -> None:
    await account.connected()
    with_poll(account)

    await vote(account, "yes", HIDDEN, None, 2)
    await vote(account, "no", ADA, BOTH, 1)

    assert totals(account) == {"yes": 1, "no": 0}
