"""People are known by each of their names, and recalled when they are no longer in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_session_node.context.people import MAX_NAMES, People
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.journal import PersonIdentity
from sessionmesh.v1 import message_pb2
from sessionmesh.v1.common_pb2 import Person
from tests.support.memory_host import names_stored

NUMBER, HIDDEN, USER = "phone:+4915100000777", "hidden:8", "user:7"
PHONE = "+4915100000777"
ACCOUNT = new_uuid()


class Stored:
    """Where identities are stored."""

    def __init__(self, *people: PersonIdentity) -> None:
        self.people = people
        self.asked: list[Sequence[str]] = []

    async def identities(self, _account: UUID, addresses: Sequence[str]) -> Any:
        self.asked.append(addresses)
        return [names_stored(person) for person in self.people]


def test_a_number_and_its_hidden_id_are_one_person() -> None:
    people = People()
    people.learn(NUMBER, Identity(hidden_id="8"))
    assert people.find(HIDDEN) == Person(address=HIDDEN, phone=PHONE, hidden_id="8")
    assert people.learn(HIDDEN, None, "Ada").phone == PHONE
    assert people.find(NUMBER).display_name == "Ada"


def test_what_is_learnt_of_two_names_joins_them() -> None:
    people = People()
    people.learn(NUMBER, Identity(username="ada"))
    people.learn(HIDDEN, None, "Ada")
    people.learn(NUMBER, Identity(hidden_id="8"))
    for address in (NUMBER, HIDDEN, "username:ada"):
        found = people.find(address)
        assert (found.address, found.phone, found.hidden_id) == (address, PHONE, "8")
        assert (found.username, found.display_name) == ("ada", "Ada")


def test_a_number_that_was_given_away_is_the_new_ones() -> None:
    people = People()
    people.learn(NUMBER, Identity(user_id="7", hidden_id="8"))
    people.learn(NUMBER, Identity(user_id="70"))
    assert people.find(NUMBER) == Person(address=NUMBER, phone=PHONE, user_id="70")
    assert people.find(USER) == Person(address=USER, user_id="7", hidden_id="8")


def test_somebody_with_a_new_number_has_the_old_one_no_more() -> None:
    people = People()
    people.learn(NUMBER, Identity(user_id="7"))
    people.learn("phone:+4915100000778", Identity(user_id="7"))
    assert people.find(USER).phone == "+4915100000778"
    assert people.find(NUMBER).user_id == ""


@pytest.mark.parametrize("chat", ["group:1", "channel:1"])
def test_nobody_is_behind_what_is_no_persons_address(chat: str) -> None:
    people = People()
    people.learn(chat, Identity(phone=PHONE), "Ada")
    shown = message_pb2.Message()
    people.show(shown, chat)
    assert not shown.HasField("recipient")
    assert people.find(NUMBER).display_name == ""
    assert not people.news


def test_who_belongs_together_is_news_once() -> None:
    people = People()
    people.learn(NUMBER, None, "Ada")
    assert not people.news
    for _ in range(2):
        people.learn(NUMBER, Identity(user_id="7", hidden_id="8"))
    [told] = people.news
    assert told.person == USER
    assert (told.phone, told.user_id, told.hidden_id, told.display_name) == (PHONE, "7", "8", "Ada")
    people.stored()
    people.learn(NUMBER, Identity(user_id="7", hidden_id="8"), "Ada")
    assert not people.news
    people.learn(NUMBER, Identity(username="ada"))
    assert len(people.news) == 1


def test_what_is_in_memory_is_bounded() -> None:
    people = People()
    for number in range(MAX_NAMES):
        people.learn(f"user:{number}", Identity(hidden_id=f"{number}"))
    assert people.find("user:0").hidden_id == ""
    assert people.find(f"user:{MAX_NAMES - 1}").hidden_id
    assert len(people.news) == MAX_NAMES


async def test_who_is_no_longer_in_memory_is_recalled_and_asked_for_once() -> None:
    people, stored = People(), Stored(PersonIdentity(USER, PHONE, "7", "8", "", "Ada", 1))
    for _ in range(2):
        await people.recall(stored, ACCOUNT, [HIDDEN, "group:1"])
    assert stored.asked == [[HIDDEN]]
    assert people.find(HIDDEN) == Person(
        address=HIDDEN, phone=PHONE, user_id="7", hidden_id="8", display_name="Ada"
    )
    assert not people.news


async def test_nobody_stored_is_asked_for_once() -> None:
    people, stored = People(), Stored()
    for _ in range(2):
        await people.recall(stored, ACCOUNT, [HIDDEN])
    assert stored.asked == [[HIDDEN]]
    assert people.find(HIDDEN) == Person(address=HIDDEN, hidden_id="8")


async def test_what_was_told_since_is_not_undone_by_what_is_stored() -> None:
    people = People()
    people.learn(HIDDEN, None, "Ada Lovelace")
    old = PersonIdentity(HIDDEN, PHONE, "", "8", "", "Ada", 1)
    given_away = PersonIdentity("hidden:9", PHONE, "", "9", "", "", 0)
    await people.recall(Stored(old, given_away), ACCOUNT, [HIDDEN])
    found = people.find(NUMBER)
    assert (found.hidden_id, found.display_name) == ("8", "Ada Lovelace")
    assert people.find("hidden:9").phone == ""


async def test_a_page_of_more_people_than_stay_in_memory_is_recalled_whole() -> None:
    people = People()
    stored = [
        PersonIdentity(f"user:{number}", "", f"{number}", f"{number}", "", "", 1)
        for number in range(MAX_NAMES)
    ]
    await people.recall(Stored(*stored), ACCOUNT, [one.person for one in stored])
    assert all(people.find(one.person).hidden_id for one in stored)


def test_who_is_erased_is_forgotten_with_what_is_not_stored_yet() -> None:
    people = People()
    people.learn(NUMBER, Identity(hidden_id="8"), "Ada")
    people.learn("phone:+4915100000778", Identity(hidden_id="9"))

    people.forget([HIDDEN, NUMBER])

    assert people.find(NUMBER) == Person(address=NUMBER, phone=PHONE)
    assert people.find(HIDDEN) == Person(address=HIDDEN, hidden_id="8")
    assert [told.hidden_id for told in people.news] == ["9"]
