"""The stations of the tour, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from mesh_cli.commands.pair import accept_request
from mesh_cli.commands.trace import fetch
from mesh_cli.demo.figures import TRACE_SERVICES, Figures
from mesh_cli.demo.photo import Photo
from mesh_cli.demo.receiver import Receiver
from mesh_cli.traces import waterfall
from mesh_cli.up.state import MeshFile, running_mesh
from mesh_client import Client, connect
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import (
    account_pb2,
    authorization_pb2,
    content_pb2,
    message_pb2,
    session_pb2,
    tenant_pb2,
    webhook_pb2,
)

ACCOUNTS = 3
TEXTS_EACH = 5
DELIVERED = "message.delivered"
REPLY = "Got it, thanks! 👍"
CONNECT_SECONDS = 15.0
DELIVERY_SECONDS = 30.0
FAILOVER_SECONDS = 60.0
TRACE_SECONDS = 15.0
POLL_SECONDS = 0.05
_SCOPES = (authorization_pb2.SCOPE_READ, authorization_pb2.SCOPE_SEND, authorization_pb2.SCOPE_MANAGE)


class Tour:
    """Walks through a running mesh as its operator and as a customer; `run` returns what was measured."""

    def __init__(self, console: Console, mesh: MeshFile, driver: str) -> None:
        self._console = console
        self._mesh = mesh
        self._driver = account_pb2.Driver.Value(f"DRIVER_{driver.upper()}")
        self._figures = Figures()
        self._calls: list[simulator_pb2.CallerRecord] = []
        self._station = 0
        # Numbers of this run only: the simulated network remembers earlier ones.
        self._prefix = f"+4915{int(time.time()) % 1_000_000:06d}"
        self._friend = f"phone:{self._prefix}9"

    async def run(self, photo: Photo) -> Figures:
        async with connect(self._mesh.address, self._mesh.admin_key) as admin, Receiver() as receiver:
            secret = await self._create_tenant(admin)
            # Through the router, for the trace to show all of the mesh.
            async with connect(self._mesh.address, secret, transport="plain") as client:
                await self._create_endpoint(client, receiver)
                accounts = await self._create_accounts(client)
                for number, account in enumerate(accounts):
                    await self._pair(admin, client, account, show=number == 0)
                await self._send_texts(admin, client, receiver, accounts)
                traced = await self._send_photo(client, receiver, accounts[0], photo)
                # Before the kill: a process that is killed takes its latest spans with it.
                await self._show_trace(traced)
                await self._kill_owner(admin, client, accounts[0])
                await self._await_deliveries(receiver)
                await self._judge(admin, receiver)
        return self._figures

    async def _create_tenant(self, admin: Client) -> str:
        """The secret of a new tenant's key."""
        self._begin("A tenant and its API key")
        name = f"demo-{self._prefix[1:]}"
        tenant = tenant_pb2.Tenant(external_id=name, display_name="Demo")
        made = await admin.tenants.CreateTenant(tenant_pb2.CreateTenantRequest(tenant=tenant))
        key = await admin.tenants.CreateApiKey(
            tenant_pb2.CreateApiKeyRequest(tenant_id=made.tenant.id, display_name="demo", scopes=_SCOPES)
        )
        self._say(f"tenant {made.tenant.id}, key {key.api_key.id}")
        return key.secret

    async def _create_endpoint(self, client: Client, receiver: Receiver) -> None:
        self._begin("A webhook endpoint, with a receiver of our own behind it")
        endpoint = webhook_pb2.Endpoint(url=receiver.url, event_types=["message.*", "session.*"])
        made = await client.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(endpoint=endpoint))
        receiver.secret = made.secret
        self._say(f"endpoint {made.endpoint.id} -> {receiver.url}")

    async def _create_accounts(self, client: Client) -> list[account_pb2.Account]:
        self._begin(f"{ACCOUNTS} accounts")
        made = []
        for number in range(ACCOUNTS):
            account = account_pb2.Account(
                external_id=f"demo-{number}", phone=f"{self._prefix}{number}", driver=self._driver
            )
            answer = await client.accounts.CreateAccount(account_pb2.CreateAccountRequest(account=account))
            self._say(f"account {answer.account.id} {answer.account.phone}")
            made.append(answer.account)
        return made

    async def _pair(self, admin: Client, client: Client, account: account_pb2.Account, *, show: bool) -> None:
        if show:
            self._begin("Pairing by QR, accepted by the simulated network's phone")
        accepted = False
        async for step in client.pair(account.id):
            if step.WhichOneof("step") == "qr" and not accepted:
                accepted = True
                if show:
                    self._console.print(step.qr.terminal, highlight=False, markup=False)
                await admin.simulator.AcceptPairing(accept_request(step, account.phone))
        session = await _connected(client, account.id)
        self._say(f"{session.self.address} is online on {session.node_id} (epoch {session.epoch})")

    async def _send_texts(
        self, admin: Client, client: Client, receiver: Receiver, accounts: list[account_pb2.Account]
    ) -> None:
        self._begin("Texts, and replies to them")
        friend = self._friend
        behaviour = simulator_pb2.NetworkBehaviour(auto_reply=REPLY)
        for account in accounts:
            await admin.simulator.SetBehaviour(
                simulator_pb2.SetBehaviourRequest(phone=account.phone, behaviour=behaviour)
            )
        for account in accounts:
            for number in range(TEXTS_EACH):
                await self._send(client, account.id, friend, _text(f"Hello number {number} ☀️"))
        replies = ACCOUNTS * TEXTS_EACH
        await receiver.until(lambda events: len(_received(events, REPLY)) >= replies, DELIVERY_SECONDS)
        self._say(f"{replies} texts sent, {replies} replies came as message.received webhooks")

    async def _send_photo(
        self, client: Client, receiver: Receiver, account: account_pb2.Account, photo: Photo
    ) -> str:
        self._begin("A photograph")
        self._say(photo.origin)
        media = await client.upload(photo.data, file_name=photo.file_name)
        self._say(
            f"media {media.id}: {media.original_size_bytes / 1e6:.2f} MB came, "
            f"{media.size_bytes / 1e6:.2f} MB stored ({media.width}x{media.height} {media.mime_type})"
        )
        reference = content_pb2.MediaReference(media_id=media.id)
        image = content_pb2.ImageContent(media=reference, caption="From the demo")
        message = await self._send(client, account.id, self._friend, content_pb2.Content(image=image))
        await receiver.until(lambda events: message.id in _with_status(events, DELIVERED), DELIVERY_SECONDS)
        event = next(
            event
            for event in receiver.received.events.values()
            if event["type"] == DELIVERED and event["message_status"]["message_id"] == message.id
        )
        self._say(f"message {message.id} delivered")
        return str(event["traceparent"])

    async def _kill_owner(self, admin: Client, client: Client, account: account_pb2.Account) -> None:
        self._begin("SIGKILL for the node that runs the first account")
        placement = await admin.fleet.GetPlacement(fleet_pb2.GetPlacementRequest(account_id=account.id))
        node_id, epoch = placement.shards[0].node_id, placement.shards[0].epoch
        mesh = running_mesh(Path(self._mesh.state)) or self._mesh
        pid = mesh.parts[node_id].pid
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        self._say(f"killed {node_id} (pid {pid}); sending on at once")
        await self._send(client, account.id, self._friend, _text("Still there?"), until_sent=True)
        self._figures.failover_seconds = round(time.monotonic() - killed, 2)
        session = await _session(client, account.id)
        self._say(
            f"sent through {session.node_id} (epoch {epoch} -> {session.epoch}) "
            f"{self._figures.failover_seconds:.2f} s after the kill"
        )

    async def _await_deliveries(self, receiver: Receiver) -> None:
        self._begin("Every message delivered")
        wanted = {call.message_id for call in self._calls}
        await receiver.until(lambda events: wanted <= _with_status(events, DELIVERED), DELIVERY_SECONDS)
        delivered = wanted & _with_status(list(receiver.received.events.values()), DELIVERED)
        self._figures.sent, self._figures.delivered = len(wanted), len(delivered)
        self._say(f"{len(delivered)} of {len(wanted)} have a message.delivered webhook")

    async def _show_trace(self, traceparent: str) -> None:
        self._begin("The photograph's way, as one trace")
        self._figures.trace_id = traceparent.split("-")[1]
        found: dict[str, Any] | None = None
        async with asyncio.timeout(TRACE_SECONDS):
            # Each process exports its spans every second.
            while found is None or not _whole(found):
                await asyncio.sleep(POLL_SECONDS)
                found = await fetch(self._mesh.traces_url, self._figures.trace_id)
        self._figures.trace_services = waterfall.services(found)
        self._console.print(waterfall.table(found))
        self._say(f"mesh trace {self._figures.trace_id}")

    async def _judge(self, admin: Client, receiver: Receiver) -> None:
        self._begin("The verdict, from the network's ledger and our own log of calls")
        verdict = await admin.simulator.GetVerdict(simulator_pb2.GetVerdictRequest(calls=self._calls))
        self._figures.lost = verdict.lost
        self._figures.duplicates = verdict.duplicates
        self._figures.overlaps = verdict.overlaps
        self._figures.unreadable = verdict.unreadable
        self._figures.webhooks_verified = receiver.received.verified
        for finding in verdict.findings:
            self._console.print(f"  {finding}", style="red", markup=False)
        self._console.print(
            f"\n  sent {self._figures.sent}   delivered {self._figures.delivered}   lost {verdict.lost}   "
            f"duplicates {verdict.duplicates}   overlaps {verdict.overlaps}   "
            f"unreadable {verdict.unreadable}   "
            f"webhooks verified {receiver.received.verified}, refused {receiver.received.refused}\n"
        )

    async def _send(
        self,
        client: Client,
        account_id: str,
        to: str,
        content: content_pb2.Content,
        *,
        until_sent: bool = False,
    ) -> message_pb2.Message:
        """Send, and note what the mesh acknowledged: the checker compares it with the network's ledger."""
        request = message_pb2.SendMessageRequest(
            account_id=account_id,
            request_id=f"demo-{len(self._calls)}",
            recipient=to,
            content=content,
            wait_for=message_pb2.WAIT_FOR_SENT if until_sent else message_pb2.WAIT_FOR_QUEUED,
        )
        answer = await client.messages.SendMessage(request, timeout=FAILOVER_SECONDS)
        now = Timestamp()
        now.GetCurrentTime()
        self._calls.append(
            simulator_pb2.CallerRecord(
                request_id=request.request_id,
                account=account_id,
                message_id=answer.message.id,
                network_message_id=answer.message.network_message_id,
                recipient=to,
                acknowledge_time=now,
            )
        )
        return answer.message

    def _begin(self, title: str) -> None:
        self._station += 1
        self._console.print(f"\n[bold]{self._station}. {title}[/]")

    def _say(self, text: str) -> None:
        self._console.print(f"  [green]✓[/] {text}", highlight=False)


async def _connected(client: Client, account_id: str) -> session_pb2.Session:
    async with asyncio.timeout(CONNECT_SECONDS):
        async for news in client.sessions.WatchSession(
            session_pb2.WatchSessionRequest(account_id=account_id)
        ):
            if news.session.state == session_pb2.SESSION_STATE_CONNECTED:
                return news.session
    raise TimeoutError(f"{account_id} did not come online")


async def _session(client: Client, account_id: str) -> session_pb2.Session:
    return (await client.sessions.GetSession(session_pb2.GetSessionRequest(account_id=account_id))).session


def _whole(trace: dict[str, Any]) -> bool:
    """Whether every process has told its part."""
    spans = {span["operationName"] for span in trace["spans"]}
    return TRACE_SERVICES.issubset(waterfall.services(trace)) and "mesh.journal.commit" in spans


def _text(body: str) -> content_pb2.Content:
    return content_pb2.Content(text=content_pb2.TextContent(body=body))


def _received(events: list[dict[str, Any]], body: str) -> list[dict[str, Any]]:
    return [
        event
        for event in events
        if event["type"] == "message.received"
        and event["message"]["message"]["content"].get("text", {}).get("body") == body
    ]


def _with_status(events: list[dict[str, Any]], kind: str) -> set[str]:
    return {event["message_status"]["message_id"] for event in events if event["type"] == kind}
