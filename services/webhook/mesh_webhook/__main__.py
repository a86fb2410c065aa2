"""The webhook service: `python -m mesh_webhook`."""

from __future__ import annotations

import asyncio

from mesh_core.database import Database
from mesh_core.database.identity import page_token_key
from mesh_core.database.listening import Listener
from mesh_core.database.watch import unready, watch
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceInfo, register
from mesh_core.events import EventListener, EventReader
from mesh_core.ids import new_uuid
from mesh_core.paging import Pager
from mesh_core.process.log_levels import follow_log_levels
from mesh_core.process.service import Stop, run, service_version
from mesh_core.process.surroundings import check_surroundings
from mesh_core.rpc.audit import AuditLog
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server import Server
from mesh_core.sealing import PostgresDataKeys, Sealer, check_master_keys
from mesh_core.signal import Signal
from mesh_core.tasks import Supervisor
from mesh_core.usage.writer import UsageWriter
from mesh_webhook.api.event_service import EventService
from mesh_webhook.api.webhook_service import WebhookService
from mesh_webhook.deliveries import backlog, maintenance
from mesh_webhook.deliveries.completions import CompletionWriter
from mesh_webhook.deliveries.delivery_store import DeliveryStore
from mesh_webhook.deliveries.dispatcher import Dispatcher
from mesh_webhook.deliveries.fan_out import FanOut
from mesh_webhook.deliveries.http_sender import HttpSender
from mesh_webhook.deliveries.owed import OwedDeliveries
from mesh_webhook.deliveries.replays import Replays
from mesh_webhook.endpoints.endpoint_cache import EndpointCache
from mesh_webhook.endpoints.endpoint_store import DELIVERIES_CHANNEL, EndpointStore
from mesh_webhook.endpoints.secrets import EndpointSecrets
from mesh_webhook.endpoints.subscribers import Subscribers
from mesh_webhook.endpoints.validation import EndpointValidator
from mesh_webhook.events.tail import Tail
from mesh_webhook.settings import WebhookServiceSettings
from mesh_webhook.subscriptions.consumers import Consumers
from mesh_webhook.subscriptions.subscription_store import SubscriptionStore
from sessionmesh.v1 import event_pb2_grpc, webhook_pb2_grpc

OLDEST_SCHEMA = 23
"""The oldest schema that this service works with."""


async def main(settings: WebhookServiceSettings, stop: Stop) -> None:
    """Makes the parts, serves, waits for a signal, drains and stops."""
    webhook = settings.webhook
    database = await Database.open(settings.database)
    etcd = Etcd(settings.etcd)
    await check_surroundings(database, etcd, settings.cluster.name, OLDEST_SCHEMA)
    await check_master_keys(database, settings.secrets)
    listener = EventListener(database)
    due = Listener(database, DELIVERIES_CHANNEL)
    reader = await EventReader.open(database, listener)
    await maintenance.make_attempt_partitions(database.pool)
    entry = Entry.of(settings.server, settings.auth, settings.redis, settings.limits)
    authenticator = KeyAuthenticator(api_key_lookup(database), settings.auth)
    audit = AuditLog(database.pool)
    usage = UsageWriter(database.pool)
    server = Server(settings.server, authenticator=authenticator, entry=entry, audit=audit)
    pager = Pager(await page_token_key(database))
    secrets = EndpointSecrets(Sealer(PostgresDataKeys(database), settings.secrets))
    endpoints, subscribers = EndpointCache(database.pool), Subscribers(database.pool)
    completions = CompletionWriter(database.pool)
    tail, owed, consumers = Tail(reader), Signal(), Consumers(database.pool)

    async with Supervisor(stop.fail) as supervisor, HttpSender(webhook) as sender:
        dispatcher = Dispatcher(database.pool, endpoints, secrets, sender, completions, due.heard, webhook)
        fan_out = FanOut(database, reader, subscribers, due.heard.notify, owed)
        owing = OwedDeliveries(database.pool, subscribers, owed, due.heard.notify)
        replays = Replays(database, reader)
        validator = EndpointValidator(sender.resolver, allow_http=webhook.allow_http)
        webhook_service = WebhookService(
            EndpointStore(database.callers),
            DeliveryStore(database.callers),
            validator,
            secrets,
            sender,
            pager,
            replays,
        )
        server.add(
            webhook_pb2_grpc.add_WebhookServiceServicer_to_server,
            webhook_service,
        )
        server.add_bytes(
            "sessionmesh.v1.WebhookService",
            {
                "ListEndpoints": webhook_service.list_endpoints,
                "ListDeliveries": webhook_service.list_deliveries,
                "ListAttempts": webhook_service.list_attempts,
            },
        )
        subscriptions = SubscriptionStore(database.callers, reader)
        event_service = EventService(reader, tail, server.draining, pager, subscriptions, consumers)
        server.add(event_pb2_grpc.add_EventServiceServicer_to_server, event_service)
        server.add_bytes("sessionmesh.v1.EventService", {"ListEvents": event_service.list_events})

        supervisor.start("events listener", listener.run())
        supervisor.start("deliveries listener", due.run())
        supervisor.start("completions", completions.run())
        supervisor.start("dispatcher", dispatcher.run())
        fanning_out = supervisor.start("fan-out", fan_out.run())
        supervisor.start("owed deliveries", owing.run())
        supervisor.start("replays", replays.run())
        supervisor.start("event tail", tail.run())
        supervisor.start("event streams", tail.wake_on_drain(server.draining))
        supervisor.start("consumers", consumers.run())
        supervisor.start("maintenance", maintenance.run(database.pool, webhook.retention_days))
        supervisor.start("tidying", maintenance.tidy(database.pool, webhook))
        supervisor.start("audit log", audit.run())
        supervisor.start("log levels", follow_log_levels(etcd, settings.cluster.name, "webhook"))
        supervisor.start("database watch", watch(database.pool))
        supervisor.start("usage", usage.run())
        supervisor.start("backlog", backlog.measure(database.pool))
        server.readiness.need("Postgres", lambda: unready(database.pool))
        await server.readiness.look()
        supervisor.start("readiness", server.readiness.run())
        await server.start()
        service = ServiceInfo(
            id=f"webhook-{new_uuid().hex[-12:]}",
            address=server.address,
            tls=bool(settings.server.tls_certificate),
            version=service_version(),
            metrics=server.metrics_address,
        )
        registration = await register(etcd, settings.cluster.name, "webhook", service, supervisor=supervisor)

        await stop.wait()
        await registration.stop()
        fanning_out.cancel()
        await asyncio.gather(server.drain(), dispatcher.drain(settings.server.drain_seconds))
        await consumers.drain()
        await server.stop()
        await audit.close()
        await usage.write()
        await entry.close()
    await etcd.close()
    await database.close()


if __name__ == "__main__":
    run("sessionmesh-webhook", WebhookServiceSettings, main)
