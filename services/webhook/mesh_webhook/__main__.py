"""The webhook service: `python -m mesh_webhook`."""

from __future__ import annotations

import asyncio
import base64

from mesh_core.database import Database
from mesh_core.database.migrations import check_schema
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import Registration, ServiceInfo, register
from mesh_core.events import EventListener, EventReader
from mesh_core.ids import new_uuid
from mesh_core.paging import Pager
from mesh_core.process.service import Stop, run
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup
from mesh_core.rpc.server import Server
from mesh_core.sealing import PostgresDataKeys, Sealer
from mesh_core.tasks import Supervisor
from mesh_webhook import housekeeping, wakeups
from mesh_webhook.catalogue import Catalogue
from mesh_webhook.completions import Completions
from mesh_webhook.dispatcher import Dispatcher
from mesh_webhook.endpoint_input import EndpointInput
from mesh_webhook.endpoint_store import EndpointStore
from mesh_webhook.event_service import EventService
from mesh_webhook.fanout import FanOut
from mesh_webhook.records import Records
from mesh_webhook.sealed_secrets import SecretKeys
from mesh_webhook.sender import Sender
from mesh_webhook.settings import WebhookServiceSettings
from mesh_webhook.tail import Tail
from mesh_webhook.webhook_service import WebhookService
from sessionmesh.v1 import event_pb2_grpc, webhook_pb2_grpc

SCHEMA = 5
"""The oldest schema that this service works with."""


async def main(settings: WebhookServiceSettings, stop: Stop) -> None:
    """Parts, serve, wait for a signal, drain, stop."""
    database = await Database.open(settings.database)
    await check_schema(database, SCHEMA)
    etcd = Etcd(settings.etcd)
    listener = EventListener(database)
    reader = await EventReader.open(database, listener)
    await housekeeping.prepare(database.pool)
    server = Server(settings.server, authenticator=KeyAuthenticator(api_key_lookup(database), settings.auth))
    pager = Pager(base64.b64decode(settings.secrets.master_key))
    keys = SecretKeys(Sealer(PostgresDataKeys(database), settings.secrets))
    catalogue = Catalogue(database.pool)
    completions = Completions(database.pool)
    tail = Tail(reader)

    async with Supervisor(stop.fail) as supervisor, Sender(settings.webhook) as sender:
        dispatcher = Dispatcher(database.pool, catalogue, keys, sender, completions, settings.webhook)
        fan_out = FanOut(database, reader, catalogue, dispatcher.poke)
        store, records = EndpointStore(database.pool), Records(database.pool)
        checks = EndpointInput(settings.webhook)
        webhooks = WebhookService(store, records, checks, keys, sender, pager)
        server.add(webhook_pb2_grpc.add_WebhookServiceServicer_to_server, webhooks)
        events = EventService(reader, tail, server.draining)
        server.add(event_pb2_grpc.add_EventServiceServicer_to_server, events)

        supervisor.start("events listener", listener.run())
        supervisor.start("deliveries listener", wakeups.listen(database, dispatcher.poke))
        supervisor.start("completions", completions.run())
        supervisor.start("dispatcher", dispatcher.run())
        fanning_out = supervisor.start("fan-out", fan_out.run())
        supervisor.start("event tail", tail.run())
        supervisor.start("event streams", tail.wake_on(server.draining))
        supervisor.start(
            "housekeeping", housekeeping.keep_house(database.pool, settings.webhook.retention_days)
        )
        supervisor.start("backlog", housekeeping.measure(database.pool))
        await server.start()
        registration = await _register(settings, etcd, server, supervisor)

        await stop.wait()
        await registration.stop()
        fanning_out.cancel()
        await asyncio.gather(server.drain(), dispatcher.drain(settings.server.drain_seconds))
        await server.stop()
    await etcd.close()
    await database.close()


async def _register(
    settings: WebhookServiceSettings, etcd: Etcd, server: Server, supervisor: Supervisor
) -> Registration:
    service = ServiceInfo(
        id=f"webhook-{new_uuid().hex[-12:]}",
        address=server.address,
        tls=bool(settings.server.tls_certificate),
    )
    return await register(etcd, settings.cluster.name, "webhook", service, supervisor=supervisor)


if __name__ == "__main__":
    run("sessionmesh-webhook", WebhookServiceSettings, main)
