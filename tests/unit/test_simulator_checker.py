"""The verdict of crafted ledgers: each violation is found, and nothing else is called one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mesh_simulator.checker import Call, Verdict, check, main
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.ledger.records import Kind, Record, read_ledger, write_json_lines
from sessionmesh.simnet.v1 import wire_pb2 as wire

ALICE = "15550000001"
TO = "phone:+4915112345678"


def login(connection: int, account: str = ALICE) -> Record:
    return Record(Kind.LOGIN, 1, connection, account)


def accepted(
    message_id: str,
    counter: int,
    connection: int = 1,
    digest: bytes = b"",
    account: str = ALICE,
    to: str = TO,
) -> Record:
    return Record(
        Kind.ACCEPTED, 1, connection, account, counter, 0, digest or message_id.encode(), message_id, to
    )


def acked(message_id: str) -> Record:
    return Record(Kind.ACKED, 1, 1, ALICE, id=message_id)


def delivered(message_id: str) -> Record:
    return Record(Kind.RECEIPT, 1, 1, ALICE, code=wire.RECEIPT_KIND_DELIVERED, id=message_id)


def call(request_id: str, network_id: str, acknowledged_at: str | None = "2026-01-01T00:00:00Z") -> Call:
    return Call(request_id, "acc_1", f"msg_{request_id}", network_id, TO, acknowledged_at)


def violations(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost, verdict.duplicates, verdict.overlaps, verdict.ratchet_reuse


def test_an_ordinary_life_is_clean() -> None:
    ledger = [login(1), accepted("A", 0), acked("A"), delivered("A"), accepted("B", 5)]
    verdict = check(ledger, [call("r1", "A"), call("r2", "B")])
    assert verdict.clean
    assert (verdict.sent, verdict.delivered, verdict.unacked) == (2, 1, 1)


# Unreadable


def unreadable(message_id: str) -> Record:
    return Record(Kind.UNREADABLE, 1, 1, ALICE, id=message_id)


def test_a_message_that_its_recipient_never_decrypted_is_unreadable() -> None:
    verdict = check([login(1), accepted("A", 0), unreadable("A")])
    assert (verdict.unreadable, verdict.clean) == (1, False)


def test_a_message_that_came_again_and_was_confirmed_is_not_unreadable() -> None:
    assert check([login(1), accepted("A", 0), unreadable("A"), delivered("A")]).clean


def test_an_inbound_message_that_came_again_and_was_acknowledged_is_not_unreadable() -> None:
    inbound = Record(Kind.INBOUND, 1, 0, ALICE, id="B", peer=TO)
    acknowledged = Record(Kind.INBOUND_ACKED, 1, 1, ALICE, id="B")
    assert check([login(1), inbound, unreadable("B")]).unreadable == 1
    assert check([login(1), inbound, unreadable("B"), acknowledged]).clean


# Lost


def test_what_the_caller_was_promised_and_the_network_never_accepted_is_lost() -> None:
    verdict = check([login(1), accepted("A", 0)], [call("r1", "A"), call("r2", "B")])
    assert violations(verdict) == (1, 0, 0, 0)
    assert "r2" in verdict.findings[0]


def test_a_promise_without_a_network_id_is_lost() -> None:
    assert violations(check([login(1)], [call("r1", "")])) == (1, 0, 0, 0)


def test_a_refused_message_that_was_promised_is_lost() -> None:
    refused = Record(Kind.REJECTED, 1, 1, ALICE, 0, wire.REJECT_REASON_RATE_LIMITED, b"", "A", TO)
    assert violations(check([login(1), refused], [call("r1", "A")])) == (1, 0, 0, 0)


def test_a_request_nobody_was_promised_is_not_lost() -> None:
    assert check([login(1)], [call("r1", "", None)]).clean


def test_a_promise_counts_even_when_an_earlier_try_was_not_answered() -> None:
    verdict = check([login(1)], [call("r1", "", None), call("r1", "A")])
    assert violations(verdict) == (1, 0, 0, 0)


# Duplicates


def test_one_request_under_two_network_ids_is_a_duplicate() -> None:
    verdict = check([login(1), accepted("A", 0), accepted("B", 1)], [call("r1", "A"), call("r1", "B")])
    assert violations(verdict) == (0, 1, 0, 0)


def test_the_same_content_under_an_id_no_caller_knows_is_a_duplicate() -> None:
    ledger = [login(1), accepted("A", 0, digest=b"hello"), accepted("B", 1, digest=b"hello")]
    assert violations(check(ledger, [call("r1", "A")])) == (0, 1, 0, 0)


def test_two_requests_may_say_the_same() -> None:
    ledger = [login(1), accepted("A", 0, digest=b"hello"), accepted("B", 1, digest=b"hello")]
    assert check(ledger, [call("r1", "A"), call("r2", "B")]).clean


def test_an_unanswered_request_may_be_the_one_that_said_the_same() -> None:
    ledger = [login(1), accepted("A", 0, digest=b"hello"), accepted("B", 1, digest=b"hello")]
    assert check(ledger, [call("r1", "A"), call("r2", "", None)]).clean


def test_one_id_shown_twice_is_a_duplicate() -> None:
    verdict = check([login(1), accepted("A", 0), accepted("A", 1)])
    assert violations(verdict) == (0, 1, 0, 0)
    assert verdict.sent == 1


def test_one_id_of_two_accounts_is_not_a_duplicate() -> None:
    ledger = [login(1), login(2, "other"), accepted("A", 0), accepted("A", 0, 2, account="other")]
    assert check(ledger).clean


def test_a_message_that_came_again_and_was_not_shown_is_not_a_duplicate() -> None:
    resent = Record(Kind.RESENT, 1, 1, ALICE, 1, id="A", peer=TO)
    assert check([login(1), accepted("A", 0), resent], [call("r1", "A")]).clean


# Overlaps


def test_a_frame_on_the_old_connection_after_the_new_login_is_an_overlap() -> None:
    verdict = check([login(1), accepted("A", 0), login(2), accepted("B", 1, connection=1)])
    assert violations(verdict) == (0, 0, 1, 0)


def test_a_frame_on_the_old_connection_before_the_new_login_is_not() -> None:
    assert check([login(1), accepted("A", 0), login(2), accepted("B", 1, connection=2)]).clean


def test_a_new_login_alone_is_not_an_overlap() -> None:
    replaced = Record(Kind.REPLACED, 1, 1, ALICE)
    assert check([login(1), login(2), replaced]).clean


# Ratchet


@pytest.mark.parametrize("second", [0, 4, 5])
def test_a_position_not_above_all_before_is_found(second: int) -> None:
    verdict = check([login(1), accepted("A", 5), accepted("B", second)])
    assert violations(verdict) == (0, 0, 0, 1)


def test_a_refused_frame_uses_its_position_up() -> None:
    refused = Record(Kind.REJECTED, 1, 1, ALICE, 7, wire.REJECT_REASON_UNKNOWN_RECIPIENT, b"", "A", TO)
    assert violations(check([login(1), refused, accepted("B", 7)])) == (0, 0, 0, 1)


def test_gaps_are_legal_also_over_logins() -> None:
    assert check([login(1), accepted("A", 5), login(2), accepted("B", 64, connection=2)]).clean


# Inbound


def test_inbound_messages_that_nobody_acknowledged_are_counted() -> None:
    ledger = [
        Record(Kind.INBOUND, 1, account=ALICE, id="A"),
        Record(Kind.INBOUND, 1, account=ALICE, id="B"),
        Record(Kind.INBOUND_ACKED, 1, 1, ALICE, id="A"),
    ]
    verdict = check(ledger)
    assert (verdict.inbound, verdict.inbound_unacked) == (2, 1)


# By hand


def write_ledger(path: Path, *message_ids: str) -> None:
    ledger = Ledger(path)
    ledger.append(Kind.ACCOUNT, account=0, text=f"{ALICE}\0+{ALICE}")
    ledger.append(Kind.LOGIN, 1, 0)
    for counter, message_id in enumerate(message_ids):
        ledger.append(Kind.ACCEPTED, 1, 0, counter, text=f"{message_id}\0{TO}")
    ledger.close()


def test_the_command_ends_with_0_only_for_a_clean_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, calls = tmp_path / "ledger.bin", tmp_path / "calls.jsonl"
    write_ledger(ledger, "A")
    calls.write_text(
        '{"request_id":"r1","network_message_id":"A","acknowledged_at":"2026-01-01T00:00:00Z"}\n'
    )
    assert main([str(ledger), "--calls", str(calls)]) == 0
    calls.write_text(
        '{"request_id":"r1","network_message_id":"B","acknowledged_at":"2026-01-01T00:00:00Z"}\n'
    )
    assert main([str(ledger), "--calls", str(calls)]) == 1
    assert '"lost": 1' in capsys.readouterr().out


def test_json_lines_say_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    write_ledger(path, "A", "B")
    lines = io.BytesIO()
    with path.open("rb") as file:
        records = list(read_ledger(file))
    write_json_lines(records, lines)
    lines.seek(0)
    assert list(read_ledger(lines)) == records


def test_a_ledger_torn_by_a_crash_is_read_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    write_ledger(path, "A", "B")
    path.write_bytes(path.read_bytes()[:-3])
    ledger = Ledger(path)
    ledger.append(Kind.ACCEPTED, 1, 0, 2, text=f"C\0{TO}")
    assert [record.id for record in ledger.read() if record.kind is Kind.ACCEPTED] == ["A", "C"]
    ledger.close()
