"""Queries about what people show, and about the account's address book."""

from __future__ import annotations

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, done, error
from mesh_simulator.accounts.shown import Shown
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_CONTACTS = 100_000
"""Of one account's address book."""


class ContactQueries:
    """Answers them from the directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {
            "look_up_person": self._look_up,
            "resolve_people": self._resolve,
            "save_contact": self._save,
            "delete_contact": self._delete,
            "get_picture": self._picture,
            "get_business_profile": self._business,
        }

    def _look_up(self, account: Account, query: wire.Query) -> wire.Answer:
        phone = self._directory.phone_at(query.look_up_person.address)
        if phone is None:
            return _nobody(query)
        shown = wire.PersonShown(identity=self._directory.identity_of(phone))
        person = self._directory.by_phone.get(phone)
        if person is not None:
            shown.push_name = person.push_name
            shows = person.shown or Shown()
            shown.business = shows.business is not None
            if shown.business:
                shown.verified_name = person.push_name
            if self._sees(account, person, "about"):
                shown.about = shows.about
            if self._sees(account, person, "picture"):
                shown.picture_id = shows.picture_id
        return wire.Answer(id=query.id, person_shown=shown)

    def _resolve(self, _account: Account, query: wire.Query) -> wire.Answer:
        answer = wire.Answer(id=query.id, resolved=wire.ResolvedPeople())
        for address in query.resolve_people.addresses:
            answer.resolved.people.append(self._directory.identity_at(address) or wire.Identity())
        return answer

    def _save(self, account: Account, query: wire.Query) -> wire.Answer:
        saved = query.save_contact
        phone = self._directory.phone_at(saved.address)
        if phone is None:
            return _nobody(query)
        contacts = {} if account.shown is None else account.shown.contacts
        if len(contacts) >= MAX_CONTACTS and phone not in contacts:
            return error(query, wire.QUERY_ERROR_REASON_FULL, "the address book is full")
        self.change(account, phone, saved.full_name, saved.first_name)
        return done(query, None)

    def _delete(self, account: Account, query: wire.Query) -> wire.Answer:
        phone = self._directory.phone_at(query.delete_contact.address)
        if phone is None:
            return _nobody(query)
        self.change(account, phone, "", "")
        return done(query, None)

    def change(self, account: Account, phone: str, full_name: str, first_name: str) -> None:
        """The address book is changed, here or on the phone; without a name: it has them no more."""
        shown = account.shown = account.shown or Shown()
        if full_name:
            shown.contacts[phone] = full_name, first_name
        elif shown.contacts.pop(phone, None) is None:
            return
        self._directory.save_account(account)

    def _picture(self, account: Account, query: wire.Query) -> wire.Answer:
        phone = self._directory.phone_at(query.get_picture.address)
        if phone is None:
            return _nobody(query)
        answer = wire.Answer(id=query.id, picture=wire.Picture())
        person = self._directory.by_phone.get(phone)
        if person is not None and person.shown is not None and self._sees(account, person, "picture"):
            answer.picture.picture_id = person.shown.picture_id
            if person.shown.picture_id != query.get_picture.known:
                answer.picture.ref = person.shown.picture_ref
        return answer

    def _business(self, _account: Account, query: wire.Query) -> wire.Answer:
        phone = self._directory.phone_at(query.get_business_profile.address)
        if phone is None:
            return _nobody(query)
        answer = wire.Answer(id=query.id)
        person = self._directory.by_phone.get(phone)
        if person is not None and person.shown is not None and person.shown.business is not None:
            answer.business_profile.CopyFrom(wire.BusinessProfile.FromString(person.shown.business))
        else:
            answer.done.SetInParent()
        return answer

    @staticmethod
    def _sees(account: Account, person: Account, what: str) -> bool:
        """Whether an account is shown this of a person; nobody is whom that person has blocked."""
        if account is person:
            return True
        if person.blocked is not None and account.phone in person.blocked:
            return False
        return (person.shown or Shown()).is_shown(what, account.phone)


def _nobody(query: wire.Query) -> wire.Answer:
    return error(query, wire.QUERY_ERROR_REASON_UNKNOWN_PERSON, "no such person")
