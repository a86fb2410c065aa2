"""The simulated network as a whole: its TCP server, who is logged in, what goes wrong."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from hashlib import sha256
from pathlib import Path

from mesh_core.errors import StartupError
from mesh_simulator.account import Account, Behaviour
from mesh_simulator.blobs import BlobStore
from mesh_simulator.connection import Connection
from mesh_simulator.directory import Directory
from mesh_simulator.faults import AT_ONCE, Fault, FaultKind, Faults
from mesh_simulator.ledger import Ledger
from mesh_simulator.messages import Messages
from mesh_simulator.pairing import Pairing
from mesh_simulator.queries import Queries
from mesh_simulator.records import NO_ACCOUNT, Kind
from mesh_simulator.restore import restore
from mesh_simulator.settings import SimulatorSettings
from mesh_simulator.wheel import TimerWheel
from sessionmesh.simnet.v1 import wire_pb2 as wire


class Network:
    """`start`, then `wheel.run` as a task until `close`. Everything in between is synchronous: decided in the
    callback that brought the news."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        state = Path(settings.state) if settings.state else None
        if state is not None:
            state.mkdir(parents=True, exist_ok=True)
        self.wheel = TimerWheel(self.flush)
        self.ledger = Ledger(state / "ledger.bin" if state else None)
        self.directory = Directory(self.ledger, state / "accounts.jsonl" if state else None)
        self.directory.set_default_behaviour(
            Behaviour(
                delivered_delay=settings.delivered_after_seconds, read_delay=settings.read_after_seconds
            )
        )
        self.blobs = BlobStore(state / "blobs" if state else None, settings.max_blobs_bytes)
        self.messages = Messages(self.directory, self.ledger, self.wheel, self.blobs)
        self.queries = Queries(self.directory)
        self.pairing = Pairing(self)
        self.faults = Faults()
        self._connections: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._outgoing: list[Connection] = []
        self._server: asyncio.Server | None = None
        self._last_connection = 0
        if state is not None:
            self._last_connection = restore(self.directory, self.ledger, self.messages)

    @property
    def connections(self) -> int:
        """Open TCP connections, logged in or not."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. Raises `StartupError` when the address is taken."""
        host, _, port = self.settings.listen.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: Connection(self), host, int(port), backlog=4096)
        except OSError as error:
            reason = error.strerror or "is another process listening there?"
            raise StartupError(
                f"MESH_SIMULATOR_LISTEN={self.settings.listen!r} cannot be bound: {reason}"
            ) from None

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        if self._server is None:
            raise RuntimeError("not started")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def close(self) -> None:
        """Say goodbye to every client and put everything on disk."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end(wire.CLOSING_REASON_SHUTDOWN)
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            await self._all_gone.wait()
        self.ledger.close()
        self.directory.close()

    def has_output(self, connection: Connection) -> None:
        """`connection` has something to write at the next `flush`."""
        self._outgoing.append(connection)

    def flush(self) -> None:
        """Write what was put to connections; first the records that it follows from."""
        self.ledger.flush()
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            for connection in outgoing:
                connection.write_out()

    def connected(self, connection: Connection) -> int:
        """A new TCP connection; answers its number, which no connection had before."""
        self._connections.add(connection)
        self._all_gone.clear()
        self._last_connection += 1
        return self._last_connection

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()
        self.pairing.forget(connection)
        account = connection.account
        if account is not None:
            self.ledger.append(Kind.CLOSED, connection.number, account.number)
            if account.connection is connection:
                account.connection = None

    def log_in(self, connection: Connection, login: wire.Login) -> None:
        """Make `connection` the account's, in place of the one it had."""
        account = self.directory.by_user.get(login.user_id)
        refusal = self._refusal(account, login.secret)
        if refusal is not None or account is None:
            refusal = refusal or wire.LOGIN_REFUSAL_BAD_CREDENTIALS
            number = account.number if account is not None else NO_ACCOUNT
            self.ledger.append(Kind.LOGIN_REFUSED, connection.number, number, code=refusal)
            refused = wire.LoginRefused(reason=refusal)
            if refusal == wire.LOGIN_REFUSAL_TRY_LATER:
                refused.retry_after_ms = 1000
            connection.end_with(wire.Frame(login_refused=refused))
            return
        replaced = account.connection
        account.connection = connection
        account.receipt_acks = login.receipt_acks
        connection.account = account
        self.pairing.forget(connection)
        self.ledger.append(
            Kind.LOGIN, connection.number, account.number, login.counter, int(login.receipt_acks)
        )
        if replaced is not None:
            self.ledger.append(Kind.REPLACED, replaced.number, account.number)
            replaced.end(wire.CLOSING_REASON_REPLACED, "another session logged in")
        connection.follow(account.effects)
        accepted = wire.LoginOk(
            phone=account.phone,
            user_id=account.user_id,
            push_name=account.push_name,
            pending_inbound=len(account.inbound),
            hidden_id=account.hidden_id,
        )
        connection.send(wire.Frame(login_ok=accepted))
        self.messages.catch_up(connection, account)

    def create_account(self, phone: str, push_name: str) -> Account:
        """A new account; what goes wrong for all goes wrong for it, too."""
        account = self.directory.create_account(phone, push_name)
        account.effects = self.faults.effects_on(account)
        return account

    def log_out(self, account: Account) -> None:
        """The account's credential no longer works."""
        account.secret_digest = b""
        self.ledger.append(Kind.LOGGED_OUT, account=account.number)
        self.directory.save_account(account)
        self._end_session(account, wire.CLOSING_REASON_LOGGED_OUT)

    def ban(self, account: Account) -> None:
        """Nobody logs in as the account any more."""
        account.banned = True
        self.ledger.append(Kind.BANNED, account=account.number)
        self.directory.save_account(account)
        self._end_session(account, wire.CLOSING_REASON_BANNED)

    def unban(self, account: Account) -> None:
        account.banned = False
        self.directory.save_account(account)

    def inject_fault(
        self, kind: FaultKind, account: Account | None, amount: float, duration: float | None
    ) -> str:
        """Begin a fault, for every account when `account` is None; answers its id. `amount` as in `Fault`;
        `duration` in seconds, None until cleared."""
        fault = Fault(secrets.token_hex(6), kind, account.user_id if account else "", amount)
        self.ledger.append(
            Kind.FAULT,
            account=account.number if account else NO_ACCOUNT,
            code=kind,
            text=f"{fault.fault_id}\0{kind.name}",
        )
        if kind in AT_ONCE:
            for each in [account] if account else list(self.directory.accounts):
                self._strike(kind, each)
        else:
            self.faults.add(fault)
            self._refresh_effects(fault.user_id)
            if duration is not None:
                self.wheel.after(duration, self.clear_fault, fault.fault_id)
        self.flush()
        return fault.fault_id

    def clear_fault(self, fault_id: str) -> bool:
        """End a fault; False when it is over already."""
        fault = self.faults.remove(fault_id)
        if fault is not None:
            self._refresh_effects(fault.user_id)
            self.flush()
        return fault is not None

    def clear_faults(self, account: Account | None) -> int:
        """End the faults of one account and its ban, or everybody's; answers how many."""
        cleared = 0
        for each in [account] if account else self.directory.accounts:
            if each.banned:
                self.unban(each)
                cleared += 1
        for fault in self.faults.matching(account.user_id if account else ""):
            cleared += self.clear_fault(fault.fault_id)
        return cleared

    def _strike(self, kind: FaultKind, account: Account) -> None:
        if kind is FaultKind.BAN:
            self.ban(account)
        elif kind is FaultKind.LOG_OUT:
            self.log_out(account)
        elif account.connection is not None:
            account.connection.abort()

    def _refresh_effects(self, user_id: str) -> None:
        for account in [self.directory.by_user[user_id]] if user_id else self.directory.accounts:
            account.effects = self.faults.effects_on(account)
            if account.connection is not None:
                account.connection.follow(account.effects)

    def _refusal(self, account: Account | None, secret: bytes) -> wire.LoginRefusal.ValueType | None:
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

    @staticmethod
    def _end_session(account: Account, reason: wire.ClosingReason.ValueType) -> None:
        if account.connection is not None:
            account.connection.end(reason)
