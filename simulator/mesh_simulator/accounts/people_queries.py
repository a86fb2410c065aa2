"""Queries about people: who is on the network, and whom an account has blocked."""

from __future__ import annotations

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import user_id_of
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, error
from sessionmesh.simnet.v1 import wire_pb2 as wire


class PeopleQueries:
    """Answers them from the directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {
            "number_check": self._number_check,
            "set_blocked": self._set_blocked,
            "list_blocked": self._list_blocked,
        }

    def _number_check(self, _account: Account, query: wire.Query) -> wire.Answer:
        numbers = [self._number_status(phone) for phone in query.number_check.phones]
        return wire.Answer(id=query.id, number_check=wire.NumberCheckResult(numbers=numbers))

    def _number_status(self, phone: str) -> wire.NumberStatus:
        if not self._directory.is_registered(phone):
            return wire.NumberStatus(phone=phone)
        return wire.NumberStatus(
            phone=phone,
            registered=True,
            user_id=user_id_of(phone),
            hidden_id=self._directory.reveal_hidden_id(phone),
            username=self._directory.usernames.get(phone, ""),
        )

    def _set_blocked(self, account: Account, query: wire.Query) -> wire.Answer:
        phone = self._directory.phone_at(query.set_blocked.address)
        if phone is None:
            return error(query, wire.QUERY_ERROR_REASON_UNKNOWN_PERSON, "no such person")
        if phone == account.phone:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "nobody blocks themselves")
        blocked = account.blocked or set()
        (blocked.add if query.set_blocked.blocked else blocked.discard)(phone)
        account.blocked = blocked or None
        self._directory.save_account(account)
        return wire.Answer(id=query.id, done=wire.Done())

    def _list_blocked(self, account: Account, query: wire.Query) -> wire.Answer:
        answer = wire.Answer(id=query.id, blocked=wire.BlockedList())
        for phone in account.blocked or ():
            address, identity = self._directory.address_of(phone), self._directory.identity_of(phone)
            answer.blocked.people.add(address=address, identity=identity)
        return answer
