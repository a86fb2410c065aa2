"""The simulated network as a whole: its parts, its TCP server, and which part each frame is for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh_core.errors import StartupError
from mesh_core.framing import encode
from mesh_simulator.accounts.account import Account, Behaviour
from mesh_simulator.accounts.contact_queries import ContactQueries
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.people_queries import PeopleQueries
from mesh_simulator.accounts.profile_queries import ProfileQueries
from mesh_simulator.accounts.queries import Queries, done
from mesh_simulator.authentication.logins import Logins
from mesh_simulator.authentication.pairing import Pairing, PairingLimits
from mesh_simulator.connections.blobs import BlobStore
from mesh_simulator.connections.connection import Connection
from mesh_simulator.connections.timers import TimerWheel
from mesh_simulator.connections.transfers import Transfers
from mesh_simulator.faults.injector import FaultInjector
from mesh_simulator.groups.communities import Communities
from mesh_simulator.groups.group_queries import GroupQueries
from mesh_simulator.groups.groups import Groups
from mesh_simulator.groups.news import GroupNews
from mesh_simulator.ledger.ledger import Ledger
from mesh_simulator.messages.app_state import AppStates
from mesh_simulator.messages.calls import Calls
from mesh_simulator.messages.changes import MessageChanges
from mesh_simulator.messages.channel_posts import ChannelPosts
from mesh_simulator.messages.channel_queries import ChannelQueries
from mesh_simulator.messages.chat_queries import ChatQueries
from mesh_simulator.messages.inbound import InboundMessages
from mesh_simulator.messages.notices import Notices
from mesh_simulator.messages.outbound import OutboundMessages
from mesh_simulator.messages.person_news import PersonNews
from mesh_simulator.messages.presence import Presences
from mesh_simulator.messages.receipts import Receipts
from mesh_simulator.messages.restore import restore
from mesh_simulator.settings import SimulatorSettings
from sessionmesh.simnet.v1 import wire_pb2 as wire

_ACCEPT_BACKLOG = 4096
"""Connections that wait to be accepted: a mesh that starts connects thousands at once."""
_PONG = encode(wire.Frame(pong=wire.Pong()).SerializeToString())


class Network:
    """Call `start`, then run `timers.run()` as a task until `close`.

    Nothing else is asynchronous: what a frame or a timer leads to is decided in its callback, and sent by
    `flush` at the end of it. Whoever calls a part's method from elsewhere calls `flush` afterwards.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        state = Path(settings.state) if settings.state else None
        if state is not None:
            state.mkdir(parents=True, exist_ok=True)
        self.timers = TimerWheel(self.flush)
        self.ledger = Ledger(state / "ledger.bin" if state else None)
        self.directory = Directory(self.ledger, state / "accounts.jsonl" if state else None)
        self.directory.set_default_behaviour(
            Behaviour(
                delivered_delay=settings.delivered_after_seconds, read_delay=settings.read_after_seconds
            )
        )
        self.blobs = BlobStore(state / "blobs" if state else None, settings.max_blobs_bytes)
        self.contacts = ContactQueries(self.directory)
        self.receipts = Receipts(self.directory, self.ledger, self.timers)
        self.notices = Notices()
        self.person_news = PersonNews(self.directory, self.notices)
        self.profiles = ProfileQueries(self.directory, self.blobs.get, self.person_news.shown)
        self.app_states = AppStates(self.ledger, self.notices)
        news = GroupNews(self.directory, self.notices)
        self.groups = Groups(self.directory, news)
        communities = Communities(self.directory, self.groups, news)
        self.group_queries = GroupQueries(self.directory, self.blobs, self.groups, communities)
        self.calls = Calls(self.directory, self.notices)
        self.presences = Presences(self.directory, self.calls)
        self.inbound = InboundMessages(self.directory, self.ledger, self.receipts)
        self.posts = ChannelPosts(self.directory, self.inbound)
        self.channels = ChannelQueries(self.directory, self.posts, self.notices)
        self.queries = Queries(
            PeopleQueries(self.directory).handlers(),
            self.contacts.handlers(),
            self.profiles.handlers(),
            ChatQueries(self.directory, self.notices).handlers(),
            self.app_states.handlers(),
            self.group_queries.handlers(),
            self.presences.handlers(),
            self.channels.handlers(),
        )
        self.outbound = OutboundMessages(
            self.directory, self.ledger, self.timers, self.blobs, self.inbound, self.receipts, self.posts
        )
        self.changes = MessageChanges(self.directory, self.ledger, self.inbound, self.posts)
        self.pairing = Pairing(
            self.directory,
            self.ledger,
            self.timers,
            PairingLimits(settings.qr_seconds, settings.pair_timeout_seconds),
            settings.accept_after_seconds,
        )
        self.logins = Logins(
            self.directory, self.ledger, self.pairing, self.inbound, self.receipts, self.notices
        )
        self.faults = FaultInjector(self.directory, self.ledger, self.timers, self.logins, self.flush)
        self._connections: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._with_output: list[Connection] = []
        self._server: asyncio.Server | None = None
        self._last_connection = 0
        if state is not None:
            self._last_connection = restore(self.directory, self.ledger, self.outbound)

    @property
    def connections(self) -> int:
        """Open TCP connections, logged in or not."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. Raises `StartupError` when the address is taken."""
        host, _, port = self._settings.listen.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self), host, int(port), backlog=_ACCEPT_BACKLOG
            )
        except OSError as error:
            reason = error.strerror or "is another process listening there?"
            raise StartupError(
                f"MESH_SIMULATOR_LISTEN={self._settings.listen!r} cannot be bound: {reason}"
            ) from None

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        if self._server is None:
            raise RuntimeError("not started")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def close(self) -> None:
        """Tell every client, close all connections, and put everything on disk."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end(wire.CLOSING_REASON_SHUTDOWN)
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            await self._all_closed.wait()
        self.ledger.close()
        self.directory.close()

    def connected(self, connection: Connection) -> int:
        """A new TCP connection; returns its number, which no connection had before."""
        self._connections.add(connection)
        self._all_closed.clear()
        self._last_connection += 1
        return self._last_connection

    def disconnected(self, connection: Connection) -> None:
        """A TCP connection is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()
        account = connection.account
        self.logins.disconnected(connection)
        if account is not None and account.client is None:
            self.presences.gone(account)
            self.flush()

    def has_output(self, connection: Connection) -> None:
        """Let `connection` write at the next `flush`."""
        self._with_output.append(connection)

    def flush(self) -> None:
        """Write what was put to connections, after the records that say so."""
        self.ledger.flush()
        if self._with_output:
            connections, self._with_output = self._with_output, []
            for connection in connections:
                connection.write_out()

    def linger(self, connection: Connection) -> None:
        """Abort the connection after `linger_seconds`."""
        self.timers.after(self._settings.linger_seconds, connection.abort)

    def handle(self, connection: Connection, frame: wire.Frame) -> None:
        """Hand a client's frame to the part that it is for; one out of place ends the connection."""
        kind = frame.WhichOneof("kind")
        account = connection.account
        if kind == "send" and account is not None:
            self.outbound.accept(connection, account, frame.send)
        elif kind == "ping":
            connection.put(_PONG)
        elif account is None:
            self._handle_unauthenticated(connection, kind, frame)
        elif kind == "inbound_ack":
            self.inbound.acknowledged(connection, account, frame.inbound_ack.id)
        elif kind == "receipt_ack":
            self.receipts.acknowledged(connection, account, frame.receipt_ack.sequence)
        elif kind == "notice_ack":
            self.notices.acknowledged(account, frame.notice_ack.sequence)
        elif kind == "receipt":
            self.receipts.read_by_client(account, frame.receipt)
        elif kind in ("blob_put", "blob_get"):
            self._transfer(connection, frame)
        elif kind == "query":
            connection.send(wire.Frame(answer=self._answer(account, frame.query)))
        elif kind == "typing":
            self.inbound.typing(account, frame.typing)
        elif kind == "logout":
            self.logins.log_out(account)
        else:
            connection.end(wire.CLOSING_REASON_PROTOCOL, f"a logged-in client may not send {kind}")

    def _handle_unauthenticated(self, connection: Connection, kind: str | None, frame: wire.Frame) -> None:
        if kind == "login":
            # What reached the account's old connection before this login may still wait to be read. It is
            # read in this turn of the event loop; what comes after the login is an overlap.
            connection.hold_frames_until(lambda: self.logins.log_in(connection, frame.login))
        elif kind == "pair_start":
            self.pairing.start(connection, frame.pair_start)
        else:
            connection.end(wire.CLOSING_REASON_PROTOCOL, f"a client may not send {kind} before it logged in")

    def _answer(self, account: Account, query: wire.Query) -> wire.Answer:
        kind = query.WhichOneof("kind")
        if kind == "change_message":
            return done(query, self.changes.change(account, query.change_message))
        return self.queries.answer(account, query)

    def _transfer(self, connection: Connection, frame: wire.Frame) -> None:
        if connection.output_closed:
            return
        if connection.transfers is None:
            connection.transfers = Transfers(connection, self.blobs, self._settings.max_blob_bytes)
        if frame.HasField("blob_put"):
            connection.transfers.receive(frame.blob_put)
        else:
            connection.transfers.fetch(frame.blob_get)
