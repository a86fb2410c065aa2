"""Receipts of many members, made fit: what was fit before costs a look into a set."""

from __future__ import annotations

import time

from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import MAX_MEMBERS, MemberReceipts
from mesh_session_node.inbound.bounds import changed, fit_address, fit_id, fit_time
from mesh_session_node.inbound.fitting import fit_identity

MAX_KNOWN = 100_000
"""Addresses of a process that are remembered to be fit, about 100 bytes each."""


class FitAddresses:
    """Addresses that were found to be fit as they are. Of too many all are forgotten, and looked at again."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._most = most
        self._known: set[str] = set()

    def all_fit(self, addresses: list[str]) -> bool:
        """Whether each is known to be fit, or is found to be."""
        if self._known.issuperset(addresses):
            return True
        fit = True
        for address in addresses:
            if address in self._known:
                continue
            if fit_address(address) == address:
                if len(self._known) >= self._most:
                    self._known.clear()
                self._known.add(address)
            else:
                fit = False
        return fit


FIT = FitAddresses()
"""Of this process."""


def fit_member_receipts(told: MemberReceipts) -> MemberReceipts:
    """At most `MAX_MEMBERS` members with their addresses, times and identities made fit; a member without a
    time has it now.
    """
    now = time.time_ns() // 1000
    members, times = [*told.members], [*told.times]
    if len(members) > MAX_MEMBERS:
        changed("list")
        del members[MAX_MEMBERS:]
    if len(times) != len(members):
        changed("list")
        times = [*times[: len(members)], *[now] * (len(members) - len(times))]
    renamed: dict[str, str] = {}
    if not FIT.all_fit(members):
        renamed = {address: fit_address(address) for address in members}
        members = [*renamed.values()] if len(renamed) == len(members) else [renamed[a] for a in members]
    if times and not 0 < min(times) <= max(times) <= now:
        times = [fit_time(at, now) for at in times]
    identities: dict[str, Identity] = {}
    if told.identities:
        known = {*members}
        for address, identity in told.identities.items():
            member, fitting = renamed.get(address, address), fit_identity(identity)
            if member in known and fitting is not None:
                identities[member] = fitting
    return MemberReceipts(fit_id(told.network_id), told.receipt, members, times, identities)
