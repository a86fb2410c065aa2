"""Logins: which connection is an account's session, and which accounts may have one."""

from __future__ import annotations

import hmac
from hashlib import sha256

from mesh_simulator.accounts.account import Account, Client
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.authentication.pairing import Pairing
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import NO_ACCOUNT, Kind
from mesh_simulator.messages.inbound import InboundMessages
from mesh_simulator.messages.notices import Notices
from mesh_simulator.messages.receipts import Receipts
from sessionmesh.simnet.v1 import wire_pb2 as wire

RETRY_LOGIN_AFTER_MS = 1000


class Logins:
    """Logs clients in and accounts out. An account has one session: a new login replaces the one before."""

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        pairing: Pairing,
        inbound: InboundMessages,
        receipts: Receipts,
        notices: Notices,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._pairing = pairing
        self._inbound = inbound
        self._receipts = receipts
        self._notices = notices

    def log_in(self, client: Client, login: wire.Login) -> None:
        """Make `client` the account's session and send it what waits for the account; or refuse."""
        account = self._directory.by_user.get(login.user_id)
        refusal = _refusal(account, login.secret)
        if refusal is not None or account is None:
            self._refuse(client, account, refusal or wire.LOGIN_REFUSAL_BAD_CREDENTIALS)
            return
        replaced = account.client
        account.client = client
        account.watching = None
        account.receipt_acks = login.receipt_acks
        client.account = account
        self._pairing.forget(client)
        self._ledger.append(Kind.LOGIN, client.number, account.number, login.counter, int(login.receipt_acks))
        if replaced is not None:
            self._ledger.append(Kind.REPLACED, replaced.number, account.number)
            replaced.end(wire.CLOSING_REASON_REPLACED, "another session logged in")
        client.apply(account.effects)
        accepted = wire.LoginOk(
            phone=account.phone,
            user_id=account.user_id,
            push_name=account.push_name,
            pending_inbound=len(account.inbound),
            hidden_id=account.hidden_id,
        )
        client.send(wire.Frame(login_ok=accepted))
        account.tell_restrictions(client)
        self._receipts.send_pending(client, account)
        self._inbound.send_pending(client, account)
        self._notices.send_pending(client, account)

    def disconnected(self, client: Client) -> None:
        """The client's connection is closed."""
        self._pairing.forget(client)
        account = client.account
        if account is not None:
            self._ledger.append(Kind.CLOSED, client.number, account.number)
            if account.client is client:
                account.client = None

    def log_out(self, account: Account) -> None:
        """Make the account's credential invalid and end its session."""
        account.secret_digest = b""
        self._ledger.append(Kind.LOGGED_OUT, account=account.number)
        self._directory.save_account(account)
        if account.client is not None:
            account.client.end(wire.CLOSING_REASON_LOGGED_OUT)

    def ban(self, account: Account) -> None:
        """Refuse all logins of the account from now on, and end its session."""
        account.banned = True
        self._ledger.append(Kind.BANNED, account=account.number)
        self._directory.save_account(account)
        if account.client is not None:
            account.client.end(wire.CLOSING_REASON_BANNED)

    def unban(self, account: Account) -> None:
        """Let the account log in again."""
        account.banned = False
        self._directory.save_account(account)

    def _refuse(self, client: Client, account: Account | None, reason: wire.LoginRefusal.ValueType) -> None:
        number = account.number if account is not None else NO_ACCOUNT
        self._ledger.append(Kind.LOGIN_REFUSED, client.number, number, code=reason)
        refused = wire.LoginRefused(reason=reason)
        if reason == wire.LOGIN_REFUSAL_TRY_LATER:
            refused.retry_after_ms = RETRY_LOGIN_AFTER_MS
        client.end_with(wire.Frame(login_refused=refused))


def _refusal(account: Account | None, secret: bytes) -> wire.LoginRefusal.ValueType | None:
    if account is None:
        return wire.LOGIN_REFUSAL_BAD_CREDENTIALS
    if account.banned:
        return wire.LOGIN_REFUSAL_BANNED
    if not account.secret_digest:
        return wire.LOGIN_REFUSAL_LOGGED_OUT
    if not hmac.compare_digest(sha256(secret).digest(), account.secret_digest):
        return wire.LOGIN_REFUSAL_BAD_CREDENTIALS
    if account.effects is not None and account.effects.refuse_logins:
        return wire.LOGIN_REFUSAL_TRY_LATER
    return None
