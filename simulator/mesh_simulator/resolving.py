"""Who is meant by what a request of the network's API names."""

from __future__ import annotations

from collections.abc import Iterable

from mesh_core import addresses
from mesh_core.errors import InvalidField, NotFound
from mesh_core.validation import phone
from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import GROUP
from mesh_simulator.accounts.group import Group
from mesh_simulator.network import Network


class Resolving:
    """What all methods of the API need."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._directory = network.directory

    def _account(self, number: str, field: str = "phone") -> Account:
        account = self._directory.by_phone.get(phone(field, number))
        if account is None:
            raise NotFound("network account", number)
        return account

    def _group(self, field: str, address: str) -> Group:
        address = addresses.group(field, address)
        group = self._directory.find(address)
        if not isinstance(group, Group):
            raise NotFound("network group", address)
        return group

    def _person(self, field: str, address: str) -> str:
        """The address of somebody on the network, as others see it."""
        address = addresses.person(field, address)
        if self._directory.phone_at(address) is None:
            raise InvalidField(field, "nobody on the network has this address")
        return self._directory.shown(address)

    def _chat(self, field: str, address: str, account: Account) -> str:
        """The address of somebody on the network, or of a group that `account` is in."""
        address = addresses.chat(field, address)
        if not address.startswith(GROUP):
            return self._person(field, address)
        if account.phone not in self._group(field, address).members:
            raise InvalidField(field, "the account is not in that group")
        return address


def phones(field: str, numbers: Iterable[str]) -> list[str]:
    """Phone numbers, in E.164. Raises `InvalidField`."""
    return [phone(f"{field}[{at}]", number) for at, number in enumerate(numbers)]
