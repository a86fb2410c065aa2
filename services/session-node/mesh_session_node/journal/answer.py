"""The answer of `journal_write` to a batch, as one outcome for each of its callers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.journal.batch import Unit
from mesh_session_node.journal.outcomes import COMMITTED, REFUSED, Duplicate, Mismatch, Outcome
from mesh_session_node.journal.rows import AccountRef, Action, InboundMessage, OutboundMessage


class Answer(msgspec.Struct, frozen=True):
    """What `journal_write` says of a batch that is not plain success; row numbers count from 1."""

    refused: frozenset[int] = frozenset()
    message: dict[int, tuple[str, bool]] = {}
    action: dict[int, tuple[str, bool]] = {}
    repeat: dict[int, str] = {}


def outcomes(units: Sequence[Unit], answer: Answer) -> list[Outcome]:
    """The outcome of each unit, in order. A unit of rows has that of its first row that was not stored."""
    result: list[Outcome] = []
    accounts: dict[AccountRef, int] = {}
    message = action = inbound = 0
    for owner, what in units:
        outcome: Outcome = COMMITTED
        if isinstance(what, OutboundMessage):
            message += 1
            outcome = _told(answer.message.get(message))
        else:
            for row in what:
                told: Outcome = COMMITTED
                if isinstance(row, InboundMessage):
                    inbound += 1
                    first = answer.repeat.get(inbound)
                    told = COMMITTED if first is None else Duplicate(UUID(first))
                elif isinstance(row, Action):
                    action += 1
                    told = _told(answer.action.get(action))
                if outcome is COMMITTED:
                    outcome = told
        if accounts.setdefault(owner, len(accounts) + 1) in answer.refused:
            outcome = REFUSED
        result.append(outcome)
    return result


def _told(first: tuple[str, bool] | None) -> Outcome:
    if first is None:
        return COMMITTED
    result, same_payload = first
    return Duplicate(UUID(result)) if same_payload else Mismatch(UUID(result))
