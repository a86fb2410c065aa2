"""What accounts are told of people: what these show, and what happened to the account's address book."""

from __future__ import annotations

import time

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.shown import Shown
from mesh_simulator.messages.notices import Notices
from sessionmesh.simnet.v1 import wire_pb2 as wire


class PersonNews:
    """Offers notices of people."""

    def __init__(self, directory: Directory, notices: Notices) -> None:
        self._directory = directory
        self._notices = notices

    def shown(self, person: Account) -> None:
        """A person has changed what they show: whoever has them in the address book is told, as far as they
        are shown it.
        """
        shows = person.shown or Shown()
        for account in self._directory.accounts:
            if account.shown is None or person.phone not in account.shown.contacts:
                continue
            if person.blocked is not None and account.phone in person.blocked:
                continue
            changed = self._begin(person.phone)
            changed.push_name = person.push_name
            changed.about = shows.about if shows.is_shown("about", account.phone) else ""
            changed.picture_id = shows.picture_id if shows.is_shown("picture", account.phone) else ""
            self._notices.offer(account, wire.Notice(person_changed=changed))

    def contact(self, account: Account, phone: str) -> None:
        """An account's phone has changed its address book."""
        names = None if account.shown is None else account.shown.contacts.get(phone)
        changed = self._begin(phone)
        changed.saved = names is not None
        changed.full_name, changed.first_name = names or ("", "")
        self._notices.offer(account, wire.Notice(person_changed=changed))

    def _begin(self, phone: str) -> wire.PersonChanged:
        return wire.PersonChanged(
            person=self._directory.address_of(phone),
            identity=self._directory.identity_of(phone),
            time_us=time.time_ns() // 1000,
        )
