"""Who is on the network: accounts and groups, kept in `accounts.jsonl` of the state folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import structlog

from mesh_simulator.accounts.account import Account, Behaviour, Effects
from mesh_simulator.accounts.addresses import (
    GROUP,
    HIDDEN,
    PHONE,
    USER,
    USERNAME,
    hidden_id_of,
    is_phone,
    split_address,
    user_id_of,
)
from mesh_simulator.accounts.channel import Channel
from mesh_simulator.accounts.group import Group
from mesh_simulator.accounts.shown import shown_of_row
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire

logger = structlog.get_logger(__name__)


class Directory:
    """Finds accounts, groups and people by address. With a path, every change is written to it at once."""

    def __init__(self, ledger: Ledger, path: Path | None) -> None:
        self.accounts: list[Account] = []
        """Indexed by their number in the ledger."""
        self.by_user: dict[str, Account] = {}
        self.by_phone: dict[str, Account] = {}
        self.groups: dict[str, Group] = {}
        self.channels: dict[str, Channel] = {}
        """By their ids, also those that are gone."""
        self.unregistered: set[str] = set()
        """Phone numbers that are not on the network; every other valid one is."""
        self.hidden: set[str] = set()
        """Phone numbers that are shown to nobody but their owners."""
        self.unaddable: set[str] = set()
        """Phone numbers of people who cannot be added to groups, only invited."""
        self.usernames: dict[str, str] = {}
        """The names of those phone numbers whose people have one."""
        self.default_behaviour = Behaviour()
        self.default_effects: Effects | None = None
        """What the faults that affect all accounts do to a new one."""
        self._phones_by_hidden: dict[str, str] = {}
        self._ledger = ledger
        self._file = None
        if path is not None:
            self._load(path)
            self._file = path.open("ab", buffering=0)

    def find(self, address: str) -> Account | Group | str | None:
        """Who has this address: an account, a group, a person without account (a phone number), or nobody."""
        kind, value = split_address(address)
        if kind == PHONE:
            phone = value
        elif kind == USER:
            phone = "+" + value
        elif kind == GROUP:
            return self.groups.get(value)
        elif kind == HIDDEN:
            phone = self._phones_by_hidden.get(value, "")
        elif kind == USERNAME:
            phone = next((phone for phone, name in self.usernames.items() if name == value), "")
        else:
            return None
        account = self.by_phone.get(phone)
        if account is not None:
            return account
        return phone if self.is_registered(phone) else None

    def phone_at(self, address: str) -> str | None:
        """The phone number of the person or account at `address`."""
        found = self.find(address)
        return found.phone if isinstance(found, Account) else found if isinstance(found, str) else None

    def is_registered(self, phone: str) -> bool:
        """Whether a phone number is on the network."""
        return is_phone(phone) and phone not in self.unregistered

    def reveal_hidden_id(self, phone: str) -> str:
        """The hidden id of `phone`, which is an address that can be written to from now on."""
        hidden_id = hidden_id_of(phone)
        self._phones_by_hidden[hidden_id] = phone
        return hidden_id

    def address_of(self, phone: str, viewer: Account | None = None) -> str:
        """How the network names the person with `phone` to others; `viewer` sees its own number."""
        if phone in self.hidden and (viewer is None or viewer.phone != phone):
            return HIDDEN + self.reveal_hidden_id(phone)
        return PHONE + phone

    def shown(self, address: str) -> str:
        """An address of a person as others see it: no hidden number, and no user name."""
        kind, _ = split_address(address)
        phone = self.phone_at(address)
        if phone is None or kind == HIDDEN or (kind != USERNAME and phone not in self.hidden):
            return address
        return self.address_of(phone)

    def identity_of(self, phone: str) -> wire.Identity:
        """What the network tells of the person with `phone`."""
        identity = wire.Identity(
            hidden_id=self.reveal_hidden_id(phone), username=self.usernames.get(phone, "")
        )
        if phone not in self.hidden:
            identity.phone = phone
            identity.user_id = user_id_of(phone)
        return identity

    def identity_at(self, address: str) -> wire.Identity | None:
        """What the network tells of the person at `address`; None when nobody is there, or it is a group."""
        phone = self.phone_at(address)
        return self.identity_of(phone) if phone is not None else None

    def create_account(self, phone: str, push_name: str) -> Account:
        """A new account, not paired."""
        account = self._add_account(phone, push_name)
        account.effects = self.default_effects
        self._ledger.append(Kind.ACCOUNT, account=account.number, text=f"{account.user_id}\0{phone}")
        self.save_account(account)
        return account

    def save_account(self, account: Account) -> None:
        """Write the account's name, credential and ban, whom it has blocked, and what it shows, to disk."""
        self._save(
            {
                "account": account.phone,
                "push_name": account.push_name,
                "secret_digest": account.secret_digest.hex(),
                "banned": account.banned,
                "blocked": sorted(account.blocked or ()),
                "shown": None if account.shown is None else account.shown.as_row(),
            }
        )

    def create_group(self, group_id: str, subject: str, members: dict[str, bool], owner: str = "") -> Group:
        """A new group; `members` maps phone numbers to whether they are administrators."""
        group = Group(group_id, subject, time.time_ns() // 1000, members, owner)
        self.groups[group_id] = group
        self.save_group(group)
        return group

    def save_group(self, group: Group) -> None:
        """Write the group to disk."""
        self._save({"group": msgspec.to_builtins(group)})

    def save_channel(self, channel: Channel) -> None:
        """Write the channel to disk, without its posts."""
        self._save({"channel": msgspec.to_builtins(channel)})

    def set_default_behaviour(self, behaviour: Behaviour) -> None:
        """Set the behaviour of every account, present and future, that has none of its own."""
        self.default_behaviour = behaviour
        for account in self.accounts:
            if not account.has_own_behaviour:
                account.behave_as(behaviour)

    def set_own_behaviour(self, account: Account, behaviour: Behaviour | None) -> None:
        """Set the behaviour of one account; None: that of all again."""
        account.has_own_behaviour = behaviour is not None
        account.behave_as(behaviour or self.default_behaviour)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add_account(self, phone: str, push_name: str) -> Account:
        account = Account(len(self.accounts), phone, push_name, self.default_behaviour)
        self.accounts.append(account)
        self.by_user[account.user_id] = account
        self.by_phone[phone] = account
        self.reveal_hidden_id(phone)
        return account

    def _save(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            self._ledger.flush()
            self._file.write(msgspec.json.encode(row) + b"\n")

    def _load(self, path: Path) -> None:
        """Accounts get their numbers from the ledger, and everything else from the last row about them."""
        for record in self._ledger.read():
            if record.kind is Kind.ACCOUNT:
                self._add_account(record.peer, "")
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        for line in lines[:-1]:  # a crash may have left an incomplete last line
            try:
                self._load_row(msgspec.json.decode(line))
            except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
                logger.warning("a line was passed over", file=str(path), problem=repr(error))
        path.write_bytes(b"".join(line + b"\n" for line in lines[:-1]))

    def _load_row(self, row: dict[str, Any]) -> None:
        if "group" in row:
            group = msgspec.convert(row["group"], Group)
            self.groups[group.group_id] = group
            return
        if "channel" in row:
            channel = msgspec.convert(row["channel"], Channel)
            self.channels[channel.channel_id] = channel
            return
        account = self.by_phone[row["account"]]
        account.push_name = row["push_name"]
        account.secret_digest = bytes.fromhex(row["secret_digest"])
        account.banned = row["banned"]
        account.blocked = set(row.get("blocked", ())) or None
        shown = row.get("shown")
        account.shown = None if shown is None else shown_of_row(shown)
