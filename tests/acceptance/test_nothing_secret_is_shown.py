"""A mesh at work shows no secret, no content and no whole phone number: in no log, span, metric, command."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import urlopen

from mesh_cli.demo.receiver import Receiver
from sessionmesh.v1 import account_pb2
from tests.support.eventually import wait_until
from tests.support.mesh_api import Tenant, open_caller, text_message
from tests.support.mesh_process import MeshProcess


async def test_what_is_secret_or_private_is_in_no_log_span_metric_or_command(
    mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    content, number = f"private-{secrets.token_hex(8)}", f"4915{secrets.randbelow(10**9):09}"
    wrong_key = f"smk_{secrets.token_hex(24)}"
    trace = secrets.token_hex(16)
    traced = (("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01"),)
    caller = tenant.caller
    async with Receiver() as receiver:
        receiver.secret = await caller.new_endpoint(receiver.url, "message.*")
        request = text_message(account.id, content, recipient=f"phone:+{number}")
        await caller(caller.messages.SendMessage, request, metadata=traced)
        await receiver.until(bool, 60)
    wrong = text_message(account.id, content, recipient=f"{number}@s.whatsapp.net")
    await caller.refused(caller.messages.SendMessage, wrong, metadata=traced)
    async with open_caller(mesh.address, wrong_key) as stranger:
        listing = account_pb2.ListAccountsRequest()
        await stranger.refused(stranger.accounts.ListAccounts, listing, metadata=traced)

    def spans() -> str:
        with suppress(HTTPError), urlopen(f"{mesh.file.traces_url}/api/traces/{trace}", timeout=10) as answer:
            found = str(answer.read().decode())
            return found if '"sessionmesh-webhook"' in found and "INVALID_ARGUMENT" in found else ""
        return ""

    markers = {
        "a message's content": content,
        "a phone number": number,
        "a tenant's key": caller.key,
        "a key that is none": wrong_key,
        "a webhook's secret": receiver.secret,
        **json.loads((mesh.state / "secrets.json").read_text()),
    }
    shown = {"spans": wait_until(spans, what="the spans of the message and of the refusal"), **_shown(mesh)}
    assert len(shown) > 2 * len(mesh.file.parts)
    found = [
        (what, place) for what, marker in markers.items() for place, text in shown.items() if marker in text
    ]
    assert found == []


def _shown(mesh: MeshProcess) -> dict[str, str]:
    """What somebody sees who is not a caller, by where."""
    shown = {f"log {log.name}": log.read_text(errors="replace") for log in (mesh.state / "logs").iterdir()}
    for name, part in mesh.file.parts.items():
        if part.metrics:
            with urlopen(f"http://{part.metrics}/metrics", timeout=10) as page:
                shown[f"metrics of {name}"] = page.read().decode()
    for process in mesh.family():
        shown[f"command of {process.pid}"] = " ".join(process.cmdline())
    return shown
