"""Pairing: a client shows a code, a person (or a setting) accepts it, the client gets its credential."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from mesh_core.errors import InvalidField, NotFound
from mesh_simulator.account import Account
from mesh_simulator.addresses import is_phone
from mesh_simulator.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire

if TYPE_CHECKING:
    from mesh_simulator.connection import Connection
    from mesh_simulator.network import Network

_LETTERS = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"


@dataclass(slots=True, eq=False)
class Attempt:
    """One client waiting to be accepted; `token` is what it shows at present."""

    connection: Connection
    method: wire.PairMethod.ValueType
    phone: str
    deadline: float
    """Monotonic seconds."""
    token: str = ""


class Pairing:
    """The attempts of the moment, by what they show."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._attempts: dict[str, Attempt] = {}
        self._by_connection: dict[Connection, Attempt] = {}
        self._made_up = 0
        self.auto_accept: float | None = network.settings.accept_after_seconds
        """Seconds after which an attempt is accepted by itself; None: a person must."""

    def start(self, connection: Connection, request: wire.PairStart) -> None:
        """Begin an attempt; an earlier one of the connection ends."""
        self.forget(connection)
        by_code = request.method == wire.PAIR_METHOD_CODE
        if (by_code or request.phone) and not is_phone(request.phone):
            _refuse(connection, wire.PAIR_REFUSAL_BAD_PHONE, "a phone number in E.164 is needed")
            return
        account = self._network.directory.by_phone.get(request.phone)
        if account is not None and account.banned:
            _refuse(connection, wire.PAIR_REFUSAL_BANNED, "the account is banned")
            return
        settings = self._network.settings
        method = wire.PAIR_METHOD_CODE if by_code else wire.PAIR_METHOD_QR
        attempt = Attempt(connection, method, request.phone, time.monotonic() + settings.pair_timeout_seconds)
        self._by_connection[connection] = attempt
        self._show(attempt)
        if self.auto_accept is not None:
            self._network.wheel.after(self.auto_accept, self._accept_by_itself, attempt)

    def accept(self, token: str, phone: str) -> Account:
        """What the person does who holds the phone: scan the QR text or type the code. `phone` may be left
        empty when the client named it. Raises NotFound for a token nobody shows (any more)."""
        attempt = self._attempts.get(token)
        if attempt is None:
            raise NotFound("pairing", token)
        phone = phone or attempt.phone
        if not is_phone(phone):
            raise InvalidField("phone", "must be a phone number in E.164, as the client named none")
        if attempt.method == wire.PAIR_METHOD_CODE and phone != attempt.phone:
            raise InvalidField("phone", "the code was made for another phone number")
        return self._finish(attempt, phone)

    def forget(self, connection: Connection) -> None:
        """End the connection's attempt, if it has one."""
        attempt = self._by_connection.pop(connection, None)
        if attempt is not None:
            del self._attempts[attempt.token]

    def _show(self, attempt: Attempt) -> None:
        """Show a fresh QR text, or the one code."""
        if self._by_connection.get(attempt.connection) is not attempt:
            return
        if (left := attempt.deadline - time.monotonic()) <= 0:
            self.forget(attempt.connection)
            attempt.connection.send(wire.Frame(pair_timeout=wire.PairTimeout()))
            return
        self._attempts.pop(attempt.token, None)
        lifetime = left
        code = wire.PairCode()
        if attempt.method == wire.PAIR_METHOD_QR:
            lifetime = min(left, self._network.settings.qr_seconds)
            attempt.token = code.qr = f"2@{secrets.token_urlsafe(48)},{secrets.token_urlsafe(32)}"
        else:
            letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
            attempt.token = code.code = f"{letters[:4]}-{letters[4:]}"
        code.expire_time_us = time.time_ns() // 1000 + int(lifetime * 1_000_000)
        self._attempts[attempt.token] = attempt
        attempt.connection.send(wire.Frame(pair_code=code))
        self._network.wheel.after(lifetime, self._show, attempt)

    def _accept_by_itself(self, attempt: Attempt) -> None:
        if self._by_connection.get(attempt.connection) is not attempt:
            return
        account = self._network.directory.by_phone.get(attempt.phone)
        if account is None or not account.banned:
            self._finish(attempt, attempt.phone or self._free_phone())

    def _free_phone(self) -> str:
        """A number of the country code that no country has."""
        while True:
            self._made_up += 1
            phone = f"+999{self._made_up:08}"
            if phone not in self._network.directory.by_phone:
                return phone

    def _finish(self, attempt: Attempt, phone: str) -> Account:
        directory = self._network.directory
        account = directory.by_phone.get(phone)
        if account is not None and account.banned:
            raise InvalidField("phone", "the account is banned")
        if account is None:
            account = self._network.create_account(phone, f"Person {phone[-4:]}")
        self.forget(attempt.connection)
        secret = self.issue(account)
        paired = wire.Paired(
            user_id=account.user_id,
            phone=phone,
            secret=secret,
            counter=account.counter + 1,
            hidden_id=account.hidden_id,
            push_name=account.push_name,
        )
        attempt.connection.send(wire.Frame(paired=paired))
        return account

    def issue(self, account: Account) -> bytes:
        """A new credential for the account; the session that uses an earlier one ends."""
        secret = secrets.token_bytes(32)
        account.secret_digest = sha256(secret).digest()
        self._network.ledger.append(Kind.PAIRED, account=account.number)
        self._network.directory.save_account(account)
        if account.connection is not None:
            account.connection.end(wire.CLOSING_REASON_LOGGED_OUT, "paired anew")
        return secret


def _refuse(connection: Connection, reason: wire.PairRefusal.ValueType, message: str) -> None:
    connection.send(wire.Frame(pair_refused=wire.PairRefused(reason=reason, message=message)))
