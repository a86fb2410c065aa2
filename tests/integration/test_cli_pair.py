"""`mesh pair` where the network asks back, as the simulated one never does, and where it accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mesh_cli.__main__ import app
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import account_pb2, account_pb2_grpc, common_pb2, session_pb2, session_pb2_grpc
from tests.conftest import LoopThread
from tests.support.fake_router import FakeRouter


class Sessions(session_pb2_grpc.SessionServiceServicer):
    """Asks `question` once; pairs when it is answered."""

    def __init__(self) -> None:
        self.question = session_pb2.PairResponse()
        self.answers: list[session_pb2.AnswerPairingRequest] = []

    async def Pair(self, request: session_pb2.PairRequest, context: Any) -> AsyncIterator[Any]:
        yield self.question
        yield session_pb2.PairResponse(
            attempt_id="pai_1",
            paired=session_pb2.PairSuccess(
                session=session_pb2.Session(
                    self=common_pb2.Person(address="hidden:7", display_name="Shop", hidden_id="7")
                )
            ),
        )

    async def AnswerPairing(self, request: session_pb2.AnswerPairingRequest, context: Any) -> Any:
        self.answers.append(request)
        return session_pb2.AnswerPairingResponse()


class Accounts(account_pb2_grpc.AccountServiceServicer):
    """Everybody's number is the same."""

    async def GetAccount(self, request: account_pb2.GetAccountRequest, context: Any) -> Any:
        account = account_pb2.Account(id=request.account_id, phone="+4915112345678")
        return account_pb2.GetAccountResponse(account=account)


class Network(simulator_pb2_grpc.SimulatorServiceServicer):
    """Notes what is accepted."""

    def __init__(self) -> None:
        self.accepted: list[simulator_pb2.AcceptPairingRequest] = []

    async def AcceptPairing(self, request: simulator_pb2.AcceptPairingRequest, context: Any) -> Any:
        self.accepted.append(request)
        return simulator_pb2.AcceptPairingResponse()


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def router(server_loop: LoopThread, sessions: Sessions, network: Network) -> Iterator[FakeRouter]:
    running = FakeRouter(
        {
            session_pb2_grpc.add_SessionServiceServicer_to_server: sessions,
            account_pb2_grpc.add_AccountServiceServicer_to_server: Accounts(),
            simulator_pb2_grpc.add_SimulatorServiceServicer_to_server: network,
        }
    )
    server_loop.run(running.start())
    yield running
    server_loop.run(running.kill())


def pair(router: FakeRouter, typed: str, *options: str) -> Result:
    command = ["--address", router.address, "--api-key", "smk_1", "pair", "acc_1", *options]
    return CliRunner().invoke(app, command, input=typed)


@pytest.mark.parametrize(("typed", "confirm"), [("y\n", True), ("n\n", False)])
def test_a_question_is_put_to_whoever_sits_there(
    router: FakeRouter, sessions: Sessions, typed: str, confirm: bool
) -> None:
    asked = session_pb2.PairConfirm(code="7K2M", text="Another device is online.")
    sessions.question = session_pb2.PairResponse(attempt_id="pai_1", confirm=asked)
    ended = pair(router, typed)
    assert ended.exit_code == 0, ended.output
    assert "Another device is online. 7K2M" in ended.output
    assert "Paired as hidden:7 (Shop)." in ended.output
    assert sessions.answers == [
        session_pb2.AnswerPairingRequest(account_id="acc_1", attempt_id="pai_1", confirm=confirm)
    ]


def test_a_challenge_is_printed_and_the_assertion_asked_for(router: FakeRouter, sessions: Sessions) -> None:
    challenge = session_pb2.PairPasskey(challenge_json='{"challenge": "abc"}')
    sessions.question = session_pb2.PairResponse(attempt_id="pai_1", passkey=challenge)
    ended = pair(router, '{"id": "1"}\n')
    assert ended.exit_code == 0, ended.output
    assert '{"challenge": "abc"}' in ended.output
    assert [answer.assertion_json for answer in sessions.answers] == ['{"id": "1"}']


def test_a_pairing_is_accepted_by_the_accounts_own_number(
    router: FakeRouter, sessions: Sessions, network: Network
) -> None:
    sessions.question.qr.text = "2@code"
    assert pair(router, "", "--accept").exit_code == 0
    assert network.accepted == [simulator_pb2.AcceptPairingRequest(qr="2@code", phone="+4915112345678")]
