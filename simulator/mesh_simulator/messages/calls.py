"""Calls to accounts, while they ring."""

from __future__ import annotations

import secrets
import time

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.messages.notices import Notices
from sessionmesh.simnet.v1 import wire_pb2 as wire


class Calls:
    """Has people call accounts, and ends their calls."""

    def __init__(self, directory: Directory, notices: Notices) -> None:
        self._directory = directory
        self._notices = notices
        self._ringing: dict[tuple[int, str], wire.CallOffered] = {}
        """By the account's number and the call's id."""

    def place(self, account: Account, caller: str, group: str, *, video: bool) -> str:
        """The person at the address `caller` calls; the id of the call."""
        call = wire.CallOffered(
            call_id=secrets.token_hex(16).upper(),
            caller=caller,
            identity=self._directory.identity_at(caller),
            group=group,
            video=video,
            time_us=time.time_ns() // 1000,
        )
        self._ringing[account.number, call.call_id] = call
        self._notices.offer(account, wire.Notice(call_offered=call))
        return call.call_id

    def reject(self, account: Account, call_id: str) -> None:
        """The account rejects a call, if it rings: it does so no more."""
        self._ringing.pop((account.number, call_id), None)

    def ringing(self, account: Account) -> int:
        """How many calls to an account have not ended."""
        return sum(number == account.number for number, _ in self._ringing)

    def end(self, account: Account, call_id: str, end: wire.CallEnd.ValueType) -> bool:
        """End a call; False: it does not ring."""
        call = self._ringing.pop((account.number, call_id), None)
        if call is None:
            return False
        ended = wire.CallEnded(
            call_id=call_id,
            caller=call.caller,
            identity=call.identity,
            group=call.group,
            end=end,
            time_us=time.time_ns() // 1000,
        )
        self._notices.offer(account, wire.Notice(call_ended=ended))
        return True
