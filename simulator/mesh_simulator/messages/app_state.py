"""What an account's devices have in common: a log of changes by name, which every device reads.

The network does not look into it.
"""

from __future__ import annotations

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.queries import Handlers, error
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind
from mesh_simulator.messages.notices import Notices
from mesh_simulator.messages.receipts import recordable
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_NAME = 512
"""Characters of a name."""
MAX_ENTRIES = 1_000
"""Of one answer."""


class AppStates:
    """Changes it for devices, and for phones, of which their devices are told."""

    def __init__(self, ledger: Ledger, notices: Notices) -> None:
        self._ledger = ledger
        self._notices = notices

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {"change_app_state": self._change, "fetch_app_state": self._fetch}

    def on_phone(self, account: Account, name: str, value: bytes) -> None:
        """The account's phone changes something."""
        self._set(account, name, value)
        entry = wire.AppStateEntry(name=name, value=value, version=account.app_state_version)
        self._notices.offer(account, wire.Notice(app_state=entry))

    def _change(self, account: Account, query: wire.Query) -> wire.Answer:
        change = query.change_app_state
        if not 0 < len(change.name) <= MAX_NAME or not change.name.isprintable():
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "a name that none can have")
        if change.HasField("base_version") and change.base_version != account.app_state_version:
            return error(query, wire.QUERY_ERROR_REASON_CONFLICT, "another device was faster")
        self._set(account, change.name, change.value)
        return wire.Answer(id=query.id, app_state=wire.AppState(version=account.app_state_version))

    def _fetch(self, account: Account, query: wire.Query) -> wire.Answer:
        answer = wire.Answer(id=query.id, app_state=wire.AppState(version=account.app_state_version))
        for name, (value, version) in reversed((account.app_state or {}).items()):
            if version <= query.fetch_app_state.after_version or len(answer.app_state.entries) == MAX_ENTRIES:
                break
            answer.app_state.entries.add(name=name, value=value, version=version)
        answer.app_state.entries.reverse()
        return answer

    def _set(self, account: Account, name: str, value: bytes) -> None:
        account.change_app_state(name, value)
        self._ledger.append(
            Kind.APP_STATE_CHANGED,
            account=account.number,
            counter=account.app_state_version,
            text=f"{recordable(name)}\0",
            body=value,
        )
