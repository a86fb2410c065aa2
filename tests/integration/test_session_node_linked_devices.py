"""A session-node with linked devices and the real sidecar: what a hostile network, a contact, or a kill at a
bad moment does to one account.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from mesh_session_node.drivers.whatsapp_web.process import NAME
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.v1 import event_pb2, message_pb2, session_pb2
from tests.support.eventually import eventually
from tests.support.proxy_server import proxy_server
from tests.support.session_node_stage import Account, NodeProcess, Stage
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import fake_network, is_built, passkey_answer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
FLOOD, STRANGERS = 100, 20
LARGE = 300
"""Members of a group: of some more, more is asked for at once than a node answers one account."""
SETTLED = (
    session_pb2.SESSION_STATE_NEW,
    session_pb2.SESSION_STATE_CONNECTED,
    session_pb2.SESSION_STATE_LOGGED_OUT,
)


class Devices:
    """A node, and the network of its linked devices."""

    def __init__(self, stage: Stage, node: NodeProcess, network: Any) -> None:
        self.stage = stage
        self.node = node
        self._network = network

    async def ask(self, method: str, **request: Any) -> Any:
        """Call SimulatorService."""
        return await getattr(self._network, method)(getattr(api, f"{method}Request")(**request), None)

    async def linked(self) -> Account:
        """An account that is linked and online."""
        account = await self.stage.create_account("whatsapp_web")
        assert (await self.pair(account))[-1] == "paired"
        await self.stage.until_state(self.node, account, session_pb2.SESSION_STATE_CONNECTED)
        return account

    async def pair(self, account: Account, *, until: str = "", **fields: Any) -> list[str]:
        """Pair by QR, which the account's phone scans; the steps, the last one `until` if it comes."""
        steps: list[str] = []
        async for step in await self.stage.pairing(self.node, account, **fields):
            steps.append(step.WhichOneof("step"))
            if steps[-1] == until:
                break
            if steps[-1] == "qr":
                await self.ask("AcceptPairing", qr=step.qr.text, phone=account.phone)
        return steps

    def sidecar(self) -> psutil.Process:
        """The node's."""
        children = psutil.Process(self.node.process.pid).children(recursive=True)
        return next(child for child in children if NAME in " ".join(child.cmdline()))

    async def delivered(self, account: Account) -> None:
        """A message of the account is sent, and arrives."""
        message = await self.stage.send(self.node, account)
        await self.stage.until_status(self.node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)

    async def until_received(self, account: Account, count: int) -> None:
        """So many messages have come."""
        counting = "SELECT count(*) FROM event WHERE account = $1 AND type = 'message.received'"

        async def came() -> bool:
            return bool(await self.stage.database.fetchval(counting, account.uuid) >= count)

        await eventually(came)

    async def received(self, account: Account) -> Counter[str]:
        """What the account was written, and how often each came."""
        events = await self.stage.events(account)
        return Counter(
            event_pb2.Event.FromString(body).message.message.content.text.body
            for kind, body in events
            if kind == "message.received"
        )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def devices(stage: Stage) -> AsyncIterator[Devices]:
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    async with fake_network() as (network, service):
        node = await stage.start_node(
            MESH_WHATSAPP_WEB_TEST_NETWORK=network.ready.network,
            MESH_WHATSAPP_WEB_TEST_ROOT=network.ready.root_key,
            MESH_SESSION_PROXY_PRIVATE_ADDRESSES="true",
        )
        yield Devices(stage, node, service)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def other(devices: Devices) -> Account:
    """An account that has nothing to do with what happens to others."""
    return await devices.linked()


async def test_who_is_flooded_gets_all_of_it_once_and_keeps_nobody_waiting(
    devices: Devices, other: Account
) -> None:
    flooded = await devices.linked()
    texts: list[str] = []
    others = asyncio.create_task(devices.delivered(other))
    while not others.done() or len(texts) < FLOOD:
        more = [f"{number}" for number in range(len(texts), len(texts) + STRANGERS)]
        texts += more
        await asyncio.gather(
            *(
                devices.ask(
                    "InjectMessage",
                    phone=flooded.phone,
                    sender=f"phone:+49151{number:08}",
                    text=text,
                )
                for number, text in enumerate(more)
            )
        )
    await others

    await devices.until_received(flooded, len(texts))
    assert await devices.received(flooded) == Counter(texts)
    await devices.delivered(flooded)


async def test_a_large_group_can_be_written_to(devices: Devices, other: Account) -> None:
    phones = [f"+49152{number:08}" for number in range(LARGE)]
    created = await devices.ask("CreateNetworkGroup", subject="all", members=[other.phone, *phones])
    message = await devices.stage.send(devices.node, other, recipient=created.group.address)
    await devices.stage.until_status(devices.node, other, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)


async def test_endless_history_holds_up_neither_what_is_new_nor_anybody_else(
    devices: Devices, other: Account
) -> None:
    buried = await devices.linked()
    await devices.ask("InjectFault", kind=api.FAULT_KIND_ENDLESS_HISTORY, phone=buried.phone)
    await devices.ask("InjectMessage", phone=buried.phone, sender="phone:+4915112345678", text="new")

    await devices.until_received(buried, 1)
    await devices.delivered(buried)
    await devices.delivered(other)
    assert await devices.received(buried) == Counter(["new"])
    await devices.ask("ClearFaults", phone=buried.phone)


async def test_what_was_set_before_a_device_is_linked_reaches_it(devices: Devices) -> None:
    stage, account = devices.stage, await devices.stage.create_account("whatsapp_web")
    async with proxy_server("anna:secret") as server:
        request = session_pb2.UpdateSessionSettingsRequest(account_id=account.id)
        request.settings.device_name, request.settings.sync_full_history = "Front desk", True
        request.settings.proxy_url = server.url("socks5")
        request.update_mask.paths.extend(["device_name", "sync_full_history", "proxy_url"])
        sessions = devices.node.sessions
        await stage.owned(lambda: sessions.UpdateSessionSettings(request, metadata=stage.metadata))

        assert (await devices.pair(account))[-1] == "paired"
        await stage.until_state(devices.node, account, session_pb2.SESSION_STATE_CONNECTED)

        linked = (await devices.ask("GetNetworkAccount", phone=account.phone)).account
        assert (linked.device_name, linked.with_history) == ("Front desk", True)
        assert len(server.targets) >= 2, "the pairing and the login"
        await devices.delivered(account)
        await stage.until_state(devices.node, account, session_pb2.SESSION_STATE_CONNECTED)


@pytest.mark.read_back("AnswerPairing")
async def test_an_account_with_a_passkey_is_linked_once_its_answers_are_given(devices: Devices) -> None:
    stage, account = devices.stage, await devices.stage.create_account("whatsapp_web")
    await devices.ask("SetNetwork", passkey_phones=[account.phone])
    steps: list[str] = []
    async for step in await stage.pairing(devices.node, account):
        answer = session_pb2.AnswerPairingRequest(account_id=account.id, attempt_id=step.attempt_id)
        steps.append(step.WhichOneof("step"))
        if steps[-1] == "qr":
            await devices.ask("AcceptPairing", qr=step.qr.text, phone=account.phone)
            continue
        if steps[-1] == "passkey":
            answer.assertion_json = passkey_answer(step.passkey.challenge_json.encode()).decode()
        elif steps[-1] == "confirm":
            answer.confirm = True
        else:
            break
        await devices.node.sessions.AnswerPairing(answer, metadata=stage.metadata)
    assert steps[-3:] == ["passkey", "confirm", "paired"]
    await stage.until_state(devices.node, account, session_pb2.SESSION_STATE_CONNECTED)
    await devices.ask("SetNetwork")


async def test_an_attempt_that_is_left_at_the_passkey_ends_with_its_time(devices: Devices) -> None:
    account = await devices.stage.create_account("whatsapp_web")
    await devices.ask("SetNetwork", passkey_phones=[account.phone])
    before = (await devices.ask("GetNetworkStats")).connections
    assert (await devices.pair(account, until="passkey", timeout={"seconds": 1}))[-1] == "passkey"

    async def gone() -> bool:
        return bool((await devices.ask("GetNetworkStats")).connections == before)

    await eventually(gone)
    await devices.stage.until_state(devices.node, account, session_pb2.SESSION_STATE_NEW)
    await devices.ask("SetNetwork")
    assert (await devices.pair(account))[-1] == "paired"


async def test_whoever_accepts_as_the_sidecar_is_killed_is_paired_or_pairs_again(devices: Devices) -> None:
    account = await devices.stage.create_account("whatsapp_web")
    step = await anext(await devices.stage.pairing(devices.node, account))
    accepting = asyncio.create_task(devices.ask("AcceptPairing", qr=step.qr.text, phone=account.phone))
    await asyncio.sleep(0)
    devices.sidecar().kill()
    await asyncio.wait([accepting])

    async def settled() -> int | None:
        state = (await devices.stage.session(devices.node, account)).state
        return state if state in SETTLED else None

    if await eventually(settled) != session_pb2.SESSION_STATE_CONNECTED:
        assert (await devices.pair(account))[-1] == "paired"
    await devices.delivered(account)


async def test_what_waited_for_an_account_is_acknowledged_before_its_login_is_done(devices: Devices) -> None:
    """What the network is asked with a login may take it long: what it offers comes before the answers."""
    account = await devices.linked()
    phone, texts = account.phone, [f"{number} while away" for number in range(3)]
    refused = await devices.ask("InjectFault", kind=api.FAULT_KIND_REFUSE_LOGINS, phone=phone)
    await devices.ask("InjectFault", kind=api.FAULT_KIND_DROP_CONNECTION, phone=phone)
    for text in texts:
        await devices.ask("InjectMessage", phone=phone, sender="phone:+4915112345678", text=text)
    await devices.ask("InjectFault", kind=api.FAULT_KIND_LATE_ANSWERS, phone=phone, delay={"seconds": 5})
    await devices.ask("ClearFaults", fault_id=refused.fault_id)

    async def acknowledged() -> bool:
        shown = (await devices.ask("GetNetworkAccount", phone=phone)).account
        return not shown.pending_inbound

    await eventually(acknowledged, seconds=30)
    await devices.ask("ClearFaults", phone=phone)
    await devices.stage.until_state(devices.node, account, session_pb2.SESSION_STATE_CONNECTED)
    await devices.delivered(account)
    assert await devices.received(account) == Counter(texts)
