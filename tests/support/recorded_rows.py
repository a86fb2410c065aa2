"""An account's rows in tests of drivers: the test says when changes are stored, and whether."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from mesh_session_node.drivers.interface.state import RowChange


class RecordedRows:
    """Implements `StateRows`. `rows` are stored; while `holding`, changes wait for `store` or `refuse`."""

    account_id = "acc_1"

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.holding = False
        self.waiting: list[tuple[Sequence[RowChange], asyncio.Future[bool]]] = []

    async def read(self, keys: Collection[str] = (), prefixes: Collection[str] = ()) -> Mapping[str, bytes]:
        return {
            key: value for key, value in self.rows.items() if key in keys or key.startswith(tuple(prefixes))
        }

    def write(self, changes: Sequence[RowChange]) -> asyncio.Future[bool]:
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting.append((changes, stored))
        if not self.holding:
            self.store()
        return stored

    def store(self) -> None:
        """What waits is stored."""
        waiting, self.waiting = self.waiting, []
        for changes, stored in waiting:
            self.apply(changes)
            stored.set_result(True)

    def refuse(self) -> None:
        """What waits never will be stored: another node has the account."""
        waiting, self.waiting = self.waiting, []
        for _, stored in waiting:
            stored.set_result(False)

    def apply(self, changes: Sequence[RowChange]) -> None:
        """These changes are stored with something else."""
        for change in changes:
            if change.value is None:
                self.rows.pop(change.key, None)
            else:
                self.rows[change.key] = change.value
