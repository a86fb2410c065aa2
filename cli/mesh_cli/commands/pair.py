"""`mesh pair`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from mesh_cli.commands.output import person
from mesh_cli.commands.target import EXIT_FAILED, AccountArgument, call, fail
from mesh_cli.commands.terminal import Terminal
from mesh_client import Client
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, session_pb2


def pair(
    context: typer.Context,
    account_id: AccountArgument,
    phone: Annotated[
        str,
        typer.Option(
            help="Pair with a code that is typed on the phone with this number, instead of a QR picture."
        ),
    ] = "",
    accept: Annotated[
        bool,
        typer.Option(help="On the simulated network: accept the pairing, in place of a person with a phone."),
    ] = False,
) -> None:
    """Pair an account: show QR pictures, or a code, until one is accepted.

    Asks for the answer where the network wants a passkey used, or the pairing confirmed.
    """
    console = Terminal()

    async def work(client: Client) -> session_pb2.PairResponse:
        step = session_pb2.PairResponse()
        async for step in client.pair(account_id, phone=phone):
            _show(console, step)
            shown = step.qr.text or step.code.code
            if accept and shown:
                known = await client.accounts.GetAccount(account_pb2.GetAccountRequest(account_id=account_id))
                await client.simulator.AcceptPairing(accept_request(step, phone or known.account.phone))
            if step.WhichOneof("step") in ("passkey", "confirm"):
                await client.sessions.AnswerPairing(await asyncio.to_thread(_ask, account_id, step))
        return step

    last = call(context, work)
    if last.WhichOneof("step") != "paired":
        fail("not paired", EXIT_FAILED)


def accept_request(step: session_pb2.PairResponse, phone: str) -> simulator_pb2.AcceptPairingRequest:
    """The acceptance of this step's QR text or code on the simulated network, by who has the number."""
    if step.WhichOneof("step") == "qr":
        return simulator_pb2.AcceptPairingRequest(qr=step.qr.text, phone=phone)
    return simulator_pb2.AcceptPairingRequest(code=step.code.code, phone=phone)


def _ask(account_id: str, step: session_pb2.PairResponse) -> session_pb2.AnswerPairingRequest:
    """The answer to a step that asks; waits for a person."""
    answer = session_pb2.AnswerPairingRequest(account_id=account_id, attempt_id=step.attempt_id)
    if step.WhichOneof("step") == "passkey":
        answer.assertion_json = typer.prompt("The passkey's assertion, as JSON on one line")
    else:
        answer.confirm = typer.confirm("Go on?")
    return answer


def _show(console: Terminal, step: session_pb2.PairResponse) -> None:
    match step.WhichOneof("step"):
        case "queued_behind":
            console.print(f"… waiting, {step.queued_behind} pairings are before this one")
        case "qr":
            console.print(step.qr.terminal, highlight=False, markup=False)
            console.print("Scan it with the phone: Linked devices, Link a device.")
        case "code":
            console.print(f"Type this code on the phone: [bold]{escape(step.code.code)}[/]")
        case "passkey":
            console.print("The network asks for the passkey of the account's owner. Its challenge:")
            console.print(step.passkey.challenge_json, highlight=False, markup=False, soft_wrap=True)
        case "confirm":
            shown = " ".join(part for part in (step.confirm.text, step.confirm.code) if part)
            console.print(shown or "The network asks whether to go on.", markup=False)
        case "paired":
            console.print(f"[green]Paired[/] as {escape(person(step.paired.session.self))}.")
        case "timed_out":
            console.print("Nobody accepted in time.")
        case "refused":
            console.print(f"The network refused: {step.refused.detail}", markup=False)
