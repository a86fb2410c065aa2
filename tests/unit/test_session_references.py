"""Earlier messages that a request names: found by either id, and held to what is stored of them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mesh_core.errors import FailedPrecondition, InvalidField, NotFound
from mesh_core.ids import Prefix, encode, new_id, new_uuid
from mesh_session_node.drivers.interface.content import Reference, network_id_of
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef, Person
from tests.support.memory_host import OneAccount, content_of

ADA = "phone:+4915100000009"
CAME, SENT = new_uuid(), new_uuid()
CAME_ID, SENT_ID = encode(Prefix.MESSAGE, CAME), encode(Prefix.MESSAGE, SENT)


@pytest.fixture
def lookup(account: OneAccount) -> ReferenceLookup:
    """One message that came and one that was sent, in the same chat."""
    came = pb.Message(sender=Person(address=ADA), content=content_of("tea?"))
    account.messages.add(CAME, "IN1", pb.DIRECTION_INBOUND, came.SerializeToString(), ADA)
    sent = pb.SendMessageRequest(recipient=ADA, content=content_of("yes"))
    account.messages.add(SENT, network_id_of(SENT), pb.DIRECTION_OUTBOUND, sent.SerializeToString(), ADA)
    return ReferenceLookup(cast("Any", account.messages))


async def resolve(account: OneAccount, lookup: ReferenceLookup, **ref: Any) -> Reference:
    return await lookup.resolve(account.session.context, MessageRef(**ref), "field")


@pytest.mark.parametrize(
    "ref",
    [
        {"message_id": CAME_ID},
        {"network_message_id": "IN1"},
        {"message_id": CAME_ID, "network_message_id": "IN1", "chat": ADA, "sender": ADA},
    ],
    ids=["our id", "the network's", "all"],
)
async def test_a_message_that_came_is_found(
    account: OneAccount, lookup: ReferenceLookup, ref: dict[str, Any]
) -> None:
    assert await resolve(account, lookup, **ref) == Reference("IN1", ADA, ADA, content_of("tea?"))


@pytest.mark.parametrize(
    "ref",
    [
        {"message_id": SENT_ID},
        {"network_message_id": network_id_of(SENT), "from_account": True},
        {"message_id": SENT_ID, "network_message_id": network_id_of(SENT), "chat": ADA},
    ],
    ids=["our id", "the network's", "all"],
)
async def test_a_message_that_was_sent_is_found_and_is_the_accounts(
    account: OneAccount, lookup: ReferenceLookup, ref: dict[str, Any]
) -> None:
    expected = Reference(network_id_of(SENT), ADA, "", content_of("yes"))
    assert await resolve(account, lookup, **ref) == expected


async def test_a_message_of_another_account_of_the_mesh_is_found_though_its_id_looks_like_ours(
    account: OneAccount, lookup: ReferenceLookup
) -> None:
    network_id = network_id_of(new_uuid())
    came = pb.Message(sender=Person(address=ADA))
    account.messages.add(new_uuid(), network_id, pb.DIRECTION_INBOUND, came.SerializeToString(), ADA)
    assert (await resolve(account, lookup, network_message_id=network_id)).sender == ADA


@pytest.mark.parametrize(
    "status",
    [pb.MESSAGE_STATUS_CANCELLED, pb.MESSAGE_STATUS_EXPIRED, pb.MESSAGE_STATUS_FAILED],
    ids=["cancelled", "expired", "failed"],
)
async def test_a_message_that_was_never_sent_cannot_be_referred_to(
    account: OneAccount, lookup: ReferenceLookup, status: int
) -> None:
    ended = new_uuid()
    account.messages.add(ended, "", pb.DIRECTION_OUTBOUND, b"", ADA, status=status)
    with pytest.raises(FailedPrecondition) as refused:
        await resolve(account, lookup, message_id=encode(Prefix.MESSAGE, ended))
    assert refused.value.reason == "MESSAGE_STATE"


async def test_a_message_id_of_no_message_is_not_found(account: OneAccount, lookup: ReferenceLookup) -> None:
    with pytest.raises(NotFound):
        await resolve(account, lookup, message_id=new_id(Prefix.MESSAGE))


@pytest.mark.parametrize(
    ("field", "ref"),
    [
        ("field.network_message_id", {"message_id": CAME_ID, "network_message_id": "IN2"}),
        ("field.chat", {"message_id": CAME_ID, "chat": "group:1"}),
        ("field.sender", {"network_message_id": "IN1", "sender": "user:7"}),
        ("field.from_account", {"network_message_id": "IN1", "from_account": True}),
        ("field.sender", {"message_id": SENT_ID, "sender": ADA}),
    ],
)
async def test_what_a_reference_says_must_be_so(
    account: OneAccount, lookup: ReferenceLookup, field: str, ref: dict[str, Any]
) -> None:
    with pytest.raises(InvalidField) as refused:
        await resolve(account, lookup, **ref)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("ref", "sender"),
    [
        ({"chat": ADA}, ADA),
        ({"chat": ADA, "from_account": True}, ""),
        ({"chat": "group:1", "sender": "user:7"}, "user:7"),
        ({"chat": "group:1", "from_account": True}, ""),
    ],
)
async def test_a_message_that_was_never_stored_is_taken_as_it_is_named(
    account: OneAccount, lookup: ReferenceLookup, ref: dict[str, Any], sender: str
) -> None:
    found = await resolve(account, lookup, network_message_id="LONGAGO", **ref)
    assert found == Reference("LONGAGO", ref["chat"], sender)


@pytest.mark.parametrize(("field", "ref"), [("field.chat", {}), ("field.sender", {"chat": "group:1"})])
async def test_of_a_message_that_was_never_stored_its_chat_and_in_groups_its_writer_are_needed(
    account: OneAccount, lookup: ReferenceLookup, field: str, ref: dict[str, Any]
) -> None:
    with pytest.raises(InvalidField) as refused:
        await resolve(account, lookup, network_message_id="LONGAGO", **ref)
    assert refused.value.field == field
