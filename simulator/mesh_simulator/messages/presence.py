"""Who is online: shown by accounts' clients and by people without one, and told to those who watch them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, error
from mesh_simulator.messages.calls import Calls
from sessionmesh.simnet.v1 import wire_pb2 as wire


@dataclass(frozen=True, slots=True)
class Online:
    """How somebody is; `last_seen_us` is 0 where that is not shown."""

    online: bool
    last_seen_us: int = 0


class Presences:
    """What is shown lasts until somebody shows otherwise, or their connection ends; watching, as long as the
    watcher's connection stands.
    """

    def __init__(self, directory: Directory, calls: Calls) -> None:
        self._directory = directory
        self._calls = calls
        self._shown: dict[str, Online] = {}
        """By phone number."""

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {
            "show_online": self._show_online,
            "watch_presence": self._watch,
            "reject_call": self._reject_call,
        }

    def show(self, phone: str, shown: Online) -> None:
        """Somebody is online from now on, or not any more."""
        if self._shown.get(phone) == shown:
            return
        self._shown[phone] = shown
        for account in self._directory.accounts:
            if account.watching is not None and phone in account.watching:
                self._tell(account, phone)

    def online(self, account: Account) -> bool:
        """Whether an account shows as online."""
        shown = self._shown.get(account.phone)
        return shown is not None and shown.online

    def gone(self, account: Account) -> None:
        """The account's connection has ended."""
        account.watching = None
        self._show_gone(account)

    def _show_gone(self, account: Account) -> None:
        if self.online(account):
            self.show(account.phone, Online(online=False, last_seen_us=time.time_ns() // 1000))

    def _show_online(self, account: Account, query: wire.Query) -> wire.Answer:
        if query.show_online.online:
            self.show(account.phone, Online(online=True))
        else:
            self._show_gone(account)
        return wire.Answer(id=query.id, done=wire.Done())

    def _watch(self, account: Account, query: wire.Query) -> wire.Answer:
        phone = self._directory.phone_at(query.watch_presence.address)
        if phone is None:
            return error(query, wire.QUERY_ERROR_REASON_UNKNOWN_PERSON, "no such person")
        if account.watching is None:
            account.watching = set()
        account.watching.add(phone)
        if phone in self._shown:
            self._tell(account, phone)
        return wire.Answer(id=query.id, done=wire.Done())

    def _reject_call(self, account: Account, query: wire.Query) -> wire.Answer:
        self._calls.reject(account, query.reject_call.call_id)
        return wire.Answer(id=query.id, done=wire.Done())

    def _tell(self, account: Account, phone: str) -> None:
        if account.client is not None:
            shown = self._shown[phone]
            presence = wire.Presence(
                available=shown.online,
                sender=self._directory.address_of(phone),
                identity=self._directory.identity_of(phone),
                last_seen_us=shown.last_seen_us,
            )
            account.client.send(wire.Frame(presence=presence))
