"""Pairing: a client shows a QR text or a code; somebody accepts it; the client gets a credential."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from hashlib import sha256

from mesh_core.errors import InvalidField, NotFound
from mesh_simulator.accounts.account import Account, Client
from mesh_simulator.accounts.addresses import is_phone
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.connections.timers import TimerWheel
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_DEVICE_NAME = 255
"""Characters that are kept of what a client calls itself."""
_CODE_LETTERS = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
_CODE_LENGTH = 8
_SECRET_BYTES = 32
_UNASSIGNED_COUNTRY = "+999"


@dataclass(slots=True, eq=False)
class Attempt:
    """A client that waits to be accepted; `token` is the QR text or code that it shows at present."""

    client: Client
    method: wire.PairMethod.ValueType
    phone: str
    device_name: str
    with_history: bool
    deadline: float
    """Monotonic seconds."""
    token: str = ""


@dataclass(frozen=True, slots=True)
class PairingLimits:
    """Seconds that a QR text, and an attempt as a whole, are valid."""

    qr_seconds: float
    timeout_seconds: float


class Pairing:
    """The attempts under way."""

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        timers: TimerWheel,
        limits: PairingLimits,
        auto_accept: float | None,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._timers = timers
        self._limits = limits
        self._attempts: dict[str, Attempt] = {}
        self._by_client: dict[Client, Attempt] = {}
        self._generated_phones = 0
        self.auto_accept = auto_accept
        """Seconds after which an attempt is accepted by itself; None: a person must."""

    def start(self, client: Client, request: wire.PairStart) -> None:
        """Begin an attempt; one that the client began before ends."""
        self.forget(client)
        by_code = request.method == wire.PAIR_METHOD_CODE
        if (by_code or request.phone) and not is_phone(request.phone):
            _refuse(client, wire.PAIR_REFUSAL_BAD_PHONE, "a phone number in E.164 is needed")
            return
        account = self._directory.by_phone.get(request.phone)
        if account is not None and account.banned:
            _refuse(client, wire.PAIR_REFUSAL_BANNED, "the account is banned")
            return
        method = wire.PAIR_METHOD_CODE if by_code else wire.PAIR_METHOD_QR
        deadline = time.monotonic() + self._limits.timeout_seconds
        name = request.device_name[:MAX_DEVICE_NAME]
        attempt = Attempt(client, method, request.phone, name, request.with_history, deadline)
        self._by_client[client] = attempt
        self._show(attempt)
        if self.auto_accept is not None:
            self._timers.after(self.auto_accept, self._accept_by_itself, attempt)

    def accept(self, token: str, phone: str) -> Account:
        """What a person does with the phone: scan the QR text, or type the code.

        `phone` may be empty when the client named it. Raises `NotFound` for a token that no client shows now,
        and `InvalidField` for a phone number that is missing, not the one the code was made for, or banned.
        """
        attempt = self._attempts.get(token)
        if attempt is None:
            raise NotFound("pairing", token)
        phone = phone or attempt.phone
        if not is_phone(phone):
            raise InvalidField("phone", "must be a phone number in E.164, as the client named none")
        if attempt.method == wire.PAIR_METHOD_CODE and phone != attempt.phone:
            raise InvalidField("phone", "the code was made for another phone number")
        return self._finish(attempt, phone)

    def forget(self, client: Client) -> None:
        """End the client's attempt, if it has one."""
        attempt = self._by_client.pop(client, None)
        if attempt is not None:
            del self._attempts[attempt.token]

    def _show(self, attempt: Attempt) -> None:
        """Show a fresh QR text, or the one code."""
        if self._by_client.get(attempt.client) is not attempt:
            return
        if (left := attempt.deadline - time.monotonic()) <= 0:
            self.forget(attempt.client)
            attempt.client.send(wire.Frame(pair_timeout=wire.PairTimeout()))
            return
        self._attempts.pop(attempt.token, None)
        lifetime = left
        code = wire.PairCode()
        if attempt.method == wire.PAIR_METHOD_QR:
            lifetime = min(left, self._limits.qr_seconds)
            attempt.token = code.qr = f"2@{secrets.token_urlsafe(48)},{secrets.token_urlsafe(32)}"
        else:
            letters = "".join(secrets.choice(_CODE_LETTERS) for _ in range(_CODE_LENGTH))
            attempt.token = code.code = f"{letters[: _CODE_LENGTH // 2]}-{letters[_CODE_LENGTH // 2 :]}"
        code.expire_time_us = time.time_ns() // 1000 + int(lifetime * 1_000_000)
        self._attempts[attempt.token] = attempt
        attempt.client.send(wire.Frame(pair_code=code))
        self._timers.after(lifetime, self._show, attempt)

    def _accept_by_itself(self, attempt: Attempt) -> None:
        if self._by_client.get(attempt.client) is not attempt:
            return
        account = self._directory.by_phone.get(attempt.phone)
        if account is None or not account.banned:
            self._finish(attempt, attempt.phone or self._free_phone())

    def _free_phone(self) -> str:
        """A phone number that no account has, of a country code that no country has."""
        while True:
            self._generated_phones += 1
            phone = f"{_UNASSIGNED_COUNTRY}{self._generated_phones:08}"
            if phone not in self._directory.by_phone:
                return phone

    def _finish(self, attempt: Attempt, phone: str) -> Account:
        account = self._directory.by_phone.get(phone)
        if account is not None and account.banned:
            raise InvalidField("phone", "the account is banned")
        if account is None:
            account = self._directory.create_account(phone, f"Person {phone[-4:]}")
        self.forget(attempt.client)
        account.device_name, account.with_history = attempt.device_name, attempt.with_history
        secret = self.issue(account)
        paired = wire.Paired(
            user_id=account.user_id,
            phone=phone,
            secret=secret,
            counter=account.counter + 1,
            hidden_id=account.hidden_id,
            push_name=account.push_name,
        )
        attempt.client.send(wire.Frame(paired=paired))
        return account

    def issue(self, account: Account) -> bytes:
        """A new credential for the account; the session that uses an earlier one ends."""
        secret = secrets.token_bytes(_SECRET_BYTES)
        account.secret_digest = sha256(secret).digest()
        self._ledger.append(Kind.PAIRED, account=account.number)
        self._directory.save_account(account)
        if account.client is not None:
            account.client.end(wire.CLOSING_REASON_LOGGED_OUT, "paired anew")
        return secret


def _refuse(client: Client, reason: wire.PairRefusal.ValueType, message: str) -> None:
    client.send(wire.Frame(pair_refused=wire.PairRefused(reason=reason, message=message)))
