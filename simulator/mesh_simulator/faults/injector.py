"""Begins and ends faults, and applies them to accounts."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.authentication.logins import Logins
from mesh_simulator.connections.timers import TimerWheel
from mesh_simulator.faults.faults import ALL_ACCOUNTS, INSTANT, ActiveFaults, Fault, FaultKind
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import NO_ACCOUNT, Kind


class FaultInjector:
    """The faults of one network; each call is complete, and flushed, when it returns."""

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        timers: TimerWheel,
        logins: Logins,
        flush: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._timers = timers
        self._logins = logins
        self._flush = flush
        self._active = ActiveFaults()

    def inject(self, kind: FaultKind, account: Account | None, amount: float, duration: float | None) -> str:
        """Begin a fault of one account, or of all when `account` is None; returns its id.

        `amount` is as in `Fault`; `duration` is in seconds, None until the fault is cleared.
        """
        fault = Fault(secrets.token_hex(6), kind, account.user_id if account else ALL_ACCOUNTS, amount)
        self._ledger.append(
            Kind.FAULT,
            account=account.number if account else NO_ACCOUNT,
            code=kind,
            text=f"{fault.fault_id}\0{kind.name}",
        )
        if kind in INSTANT:
            for each in [account] if account else list(self._directory.accounts):
                self._strike(kind, each)
        else:
            self._active.add(fault)
            self._apply(fault.user_id)
            if duration is not None:
                self._timers.after(duration, self.clear, fault.fault_id)
        self._flush()
        return fault.fault_id

    def clear(self, fault_id: str) -> bool:
        """End a fault; False when it has ended before."""
        fault = self._active.remove(fault_id)
        if fault is not None:
            self._apply(fault.user_id)
            self._flush()
        return fault is not None

    def clear_all(self, account: Account | None) -> int:
        """End the faults and the ban of one account, or of everybody; returns how many there were.

        Faults that were injected for all accounts end only with `account` None.
        """
        cleared = 0
        for each in [account] if account else self._directory.accounts:
            if each.banned:
                self._logins.unban(each)
                cleared += 1
        for fault in self._active.of(account.user_id) if account else self._active.all():
            cleared += self.clear(fault.fault_id)
        return cleared

    def _strike(self, kind: FaultKind, account: Account) -> None:
        if kind is FaultKind.BAN:
            self._logins.ban(account)
        elif kind is FaultKind.LOG_OUT:
            self._logins.log_out(account)
        elif account.client is not None:
            account.client.abort()

    def _apply(self, user_id: str) -> None:
        """Apply the faults of the moment to one account, or to all."""
        if user_id == ALL_ACCOUNTS:
            self._directory.default_effects = self._active.effects_on(ALL_ACCOUNTS)
            accounts = self._directory.accounts
        else:
            accounts = [self._directory.by_user[user_id]]
        for account in accounts:
            account.effects = self._active.effects_on(account.user_id)
            if account.client is not None:
                account.client.apply(account.effects)
