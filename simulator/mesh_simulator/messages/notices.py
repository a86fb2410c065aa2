"""What accounts are told beside messages: offered to an account's client until it acknowledges it. They are
not kept over a restart of the network.
"""

from __future__ import annotations

from collections import deque

from mesh_simulator.accounts.account import Account, Client
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_PENDING_NOTICES = 10_000
"""Notices kept for an account that is offline or does not acknowledge; then the oldest are forgotten."""


class Notices:
    """Offers notices to clients."""

    def offer(self, account: Account, notice: wire.Notice) -> None:
        """Offer a notice to an account, now or after its next login. Fills in its sequence."""
        account.notice_sequence += 1
        notice.sequence = account.notice_sequence
        if account.notices is None:
            account.notices = deque(maxlen=MAX_PENDING_NOTICES)
        account.notices.append(notice)
        if account.client is not None:
            account.client.send(wire.Frame(notice=notice))

    def pending(self, account: Account) -> int:
        """How many of an account's notices are not acknowledged."""
        return len(account.notices or ())

    def send_pending(self, client: Client, account: Account) -> None:
        """After a login: what the account has not acknowledged, oldest first."""
        for notice in account.notices or ():
            client.send(wire.Frame(notice=notice))

    def acknowledged(self, account: Account, sequence: int) -> None:
        """The client has this notice."""
        left = [notice for notice in account.notices or () if notice.sequence != sequence]
        account.notices = deque(left, MAX_PENDING_NOTICES) if left else None
