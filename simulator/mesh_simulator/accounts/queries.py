"""The queries of clients: number checks, blocked people and groups."""

from __future__ import annotations

import secrets

from mesh_simulator.accounts.account import Account, Group
from mesh_simulator.accounts.addresses import user_id_of
from mesh_simulator.accounts.directory import Directory
from sessionmesh.simnet.v1 import wire_pb2 as wire


class Queries:
    """Answers queries from the directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def answer(self, account: Account, query: wire.Query) -> wire.Answer:
        """The answer to `query`, or an error."""
        kind = query.WhichOneof("kind")
        if kind == "number_check":
            numbers = [self._number_status(phone) for phone in query.number_check.phones]
            return wire.Answer(id=query.id, number_check=wire.NumberCheckResult(numbers=numbers))
        if kind == "set_blocked":
            return self._set_blocked(account, query)
        if kind == "list_blocked":
            return self._list_blocked(account, query)
        if kind == "get_group":
            group = self._directory.groups.get(query.get_group.group_id)
            if group is None or account.phone not in group.members:
                return _error(query, wire.QUERY_ERROR_REASON_NOT_FOUND, "no such group")
            return self._answer_group(account, query, group)
        if kind == "create_group":
            return self._create_group(account, query)
        if kind == "change_members":
            return self._change_members(account, query)
        return _error(query, wire.QUERY_ERROR_REASON_MALFORMED, "unknown query")

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
            return _error(query, wire.QUERY_ERROR_REASON_UNKNOWN_PERSON, "no such person")
        if phone == account.phone:
            return _error(query, wire.QUERY_ERROR_REASON_MALFORMED, "nobody blocks themselves")
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

    def _create_group(self, account: Account, query: wire.Query) -> wire.Answer:
        phones = [self._directory.phone_at(address) for address in query.create_group.members]
        members = {phone: False for phone in phones if phone is not None}
        if None in phones:
            return _error(query, wire.QUERY_ERROR_REASON_MALFORMED, "a member is not on the network")
        members[account.phone] = True
        group = self._directory.create_group(new_group_id(), query.create_group.subject, members)
        return self._answer_group(account, query, group)

    def _change_members(self, account: Account, query: wire.Query) -> wire.Answer:
        change = query.change_members
        group = self._directory.groups.get(change.group_id)
        if group is None or account.phone not in group.members:
            return _error(query, wire.QUERY_ERROR_REASON_NOT_FOUND, "no such group")
        add = [self._directory.phone_at(address) for address in change.add]
        remove = [self._directory.phone_at(address) for address in change.remove]
        leaves = not add and remove == [account.phone]
        if not leaves and not group.members[account.phone]:
            return _error(query, wire.QUERY_ERROR_REASON_FORBIDDEN, "only administrators change a group")
        if None in add or None in remove:
            return _error(query, wire.QUERY_ERROR_REASON_MALFORMED, "a member is not on the network")
        for phone in add:
            group.members.setdefault(str(phone), False)
        for phone in remove:
            group.members.pop(str(phone), None)
        self._directory.save_group(group)
        return self._answer_group(account, query, group)

    def _answer_group(self, account: Account, query: wire.Query, group: Group) -> wire.Answer:
        members = [
            wire.GroupMember(
                address=self._directory.address_of(phone, account),
                admin=admin,
                identity=self._directory.identity_of(phone),
            )
            for phone, admin in group.members.items()
        ]
        return wire.Answer(
            id=query.id,
            group=wire.Group(
                group_id=group.group_id,
                subject=group.subject,
                members=members,
                create_time_us=group.create_time_us,
            ),
        )


def new_group_id() -> str:
    """An id that no group has."""
    return secrets.token_hex(8)


def done(query: wire.Query, refusal: wire.QueryErrorReason.ValueType | None) -> wire.Answer:
    """The answer to a query that changes something: that it is done, or why not."""
    if refusal is None:
        return wire.Answer(id=query.id, done=wire.Done())
    words = wire.QueryErrorReason.Name(refusal).removeprefix("QUERY_ERROR_REASON_").replace("_", " ").lower()
    return _error(query, refusal, words)


def _error(query: wire.Query, reason: wire.QueryErrorReason.ValueType, message: str) -> wire.Answer:
    return wire.Answer(id=query.id, error=wire.QueryError(reason=reason, message=message))
