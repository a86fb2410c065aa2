"""Queries about groups."""

from __future__ import annotations

import secrets

from mesh_simulator.accounts.account import Account, Group
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, error
from sessionmesh.simnet.v1 import wire_pb2 as wire


class GroupQueries:
    """Answers them from the directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {
            "get_group": self._get_group,
            "create_group": self._create_group,
            "change_members": self._change_members,
        }

    def _get_group(self, account: Account, query: wire.Query) -> wire.Answer:
        group = self._directory.groups.get(query.get_group.group_id)
        if group is None or account.phone not in group.members:
            return error(query, wire.QUERY_ERROR_REASON_NOT_FOUND, "no such group")
        return self._answer_group(account, query, group)

    def _create_group(self, account: Account, query: wire.Query) -> wire.Answer:
        phones = [self._directory.phone_at(address) for address in query.create_group.members]
        members = {phone: False for phone in phones if phone is not None}
        if None in phones:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "a member is not on the network")
        members[account.phone] = True
        group = self._directory.create_group(new_group_id(), query.create_group.subject, members)
        return self._answer_group(account, query, group)

    def _change_members(self, account: Account, query: wire.Query) -> wire.Answer:
        change = query.change_members
        group = self._directory.groups.get(change.group_id)
        if group is None or account.phone not in group.members:
            return error(query, wire.QUERY_ERROR_REASON_NOT_FOUND, "no such group")
        add = [self._directory.phone_at(address) for address in change.add]
        remove = [self._directory.phone_at(address) for address in change.remove]
        leaves = not add and remove == [account.phone]
        if not leaves and not group.members[account.phone]:
            return error(query, wire.QUERY_ERROR_REASON_FORBIDDEN, "only administrators change a group")
        if None in add or None in remove:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "a member is not on the network")
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
