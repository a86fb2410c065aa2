"""Rows and keys as no release of the mesh writes them: whoever reads them must go on with the next one.

They stand for what a defect, an older release or a person with a database client leaves behind.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.etcd import Etcd
from mesh_core.events.notify import CHANNEL
from mesh_webhook.endpoints.endpoint_store import DELIVERIES_CHANNEL
from sessionmesh.v1 import content_pb2, event_pb2, job_pb2, message_pb2

GARBAGE = b"\xff\xfe\x00\x01 not a message"
NOBODY = UUID(b"\xff" * 16)
BEYOND = 10**15
"""Seconds that no calendar has."""


@dataclass(frozen=True, slots=True)
class Victim:
    """Whose rows are poisoned: a tenant, its account that is online, its endpoint that wants everything."""

    database: asyncpg.Connection
    etcd: Etcd
    cluster: str
    tenant: UUID
    account: UUID
    endpoint: UUID


async def events(victim: Victim) -> None:
    """Bodies that are no event, that no JSON can hold, and types that nobody knows."""
    late = content_pb2.Content()
    late.appointment.start_time.seconds = BEYOND
    unrenderable = event_pb2.Event(type="message.received")
    unrenderable.message.message.content.CopyFrom(late)
    ringing = event_pb2.Event(type="call.received")
    ringing.call.SetInParent()
    ringing.occur_time.seconds = -BEYOND
    bodies = {
        "message.received": (GARBAGE, unrenderable.SerializeToString()),
        "call.received": (ringing.SerializeToString(),),
        "no.such.type": (b"", GARBAGE),
    }
    rows = [(type_, body) for type_, some in bodies.items() for body in some]
    for seq, (type_, body) in enumerate(rows):
        await victim.database.execute(
            "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
            " VALUES ($1, $2, $3, $4, 1, $5, $6)",
            ids.new_uuid(),
            seq,
            victim.tenant,
            victim.account,
            type_,
            body,
        )


async def deliveries(victim: Victim) -> None:
    """Of no endpoint, with a body that is no JSON, due at no time, in a state that there is not."""
    rows = [
        (NOBODY, GARBAGE, "now", 1),
        (victim.endpoint, GARBAGE, "now", 1),
        (victim.endpoint, b"", "infinity", 1),
        (victim.endpoint, b"{}", "-infinity", 1),
        (victim.endpoint, b"{}", "now", 77),
    ]
    for endpoint, body, due, state in rows:
        await victim.database.execute(
            "INSERT INTO webhook_delivery"
            " (id, endpoint, tenant, event, event_type, body, traceparent, due_at, state)"
            " VALUES ($1, $2, $3, $4, 'message.received', $5, 'no trace', $7::text::timestamptz, $6)",
            ids.new_uuid(),
            endpoint,
            victim.tenant,
            ids.new_uuid(),
            body,
            state,
            due,
        )


async def endpoints(victim: Victim) -> None:
    """With a URL, headers, a secret and types that nobody could have given."""
    for url in ("http://a..b/", "not a url", f"http://{'a' * 64}.example/", "http://127.0.0.1:1/ok"):
        await victim.database.execute(
            "INSERT INTO webhook_endpoint"
            " (id, tenant, url, headers, header_names, labels, event_types, secret)"
            " VALUES ($1, $2, $3, $4, '{one,two}', '[1]', '{no such,message.*}', $4)",
            ids.new_uuid(),
            victim.tenant,
            url,
            GARBAGE,
        )


async def owed(victim: Victim) -> None:
    """Deliveries that are owed to a tenant that there is not, and to one with labels that are none."""
    for number, tenant in enumerate((NOBODY, victim.tenant)):
        await victim.database.execute(
            "INSERT INTO webhook_owed"
            " (tenant, xid, seq, event, account, event_type, labels, body, traceparent)"
            " VALUES ($1, '3', $2, $3, NULL, 'message.received', $4, $4, '')",
            tenant,
            number,
            ids.new_uuid(),
            GARBAGE,
        )
    await victim.database.execute("INSERT INTO webhook_leaving (endpoint) VALUES ($1)", NOBODY)


async def subscriptions(victim: Victim) -> None:
    """With filters that are none, consumed by nobody until no time, from places that are none."""
    for number, lapse in enumerate(("now", "infinity", "-infinity")):
        one, consumer = ids.new_uuid(), ids.new_uuid()
        await victim.database.execute(
            "INSERT INTO subscription (id, tenant, name, event_types, account_ids, labels)"
            " VALUES ($1, $2, $3, '{no such}', '{}', '[1]')",
            one,
            victim.tenant,
            f"no name {number}",
        )
        await victim.database.execute(
            "INSERT INTO subscription_consumer (id, subscription, origin, sent, done, lapse_at)"
            " VALUES ($1, $2, $2, $3, $3, $4::text::timestamptz)",
            consumer,
            one,
            GARBAGE,
            lapse,
        )
        await victim.database.execute(
            "INSERT INTO subscription_lane (subscription, lane, place, holder) VALUES ($1, 77, $2, $3)",
            one,
            GARBAGE,
            consumer,
        )


async def notifications(victim: Victim) -> None:
    """Of every channel that there is, with a payload that says nothing."""
    for channel in (CHANNEL, DELIVERIES_CHANNEL):
        await victim.database.execute("SELECT pg_notify($1, $2)", channel, "\N{PILE OF POO}" * 1000)


async def objects(victim: Victim) -> None:
    """Objects to be deleted whose keys lead out of the store, or nowhere."""
    for number, key in enumerate(("../../etc/passwd", "", "/", "a//b", "\N{PILE OF POO}" * 300)):
        await victim.database.execute(
            "INSERT INTO media_loose_object (key, tenant, size, due_time) VALUES ($1, $2, $3, now())",
            key,
            victim.tenant,
            number,
        )


async def media(victim: Victim) -> None:
    """Media that are still to be processed and fetched, and nobody can tell how or from where."""
    for kind in (1, 2, 77):
        for url in ("", "http://a..b/", "\N{PILE OF POO}" * 300):
            one = ids.new_uuid()
            await victim.database.execute(
                "INSERT INTO media (id, tenant, mime_type, original_size, origin, state, unprocessed)"
                " VALUES ($1, $2, 'no type', -1, 77, 1, 77)",
                one,
                victim.tenant,
            )
            await victim.database.execute(
                "INSERT INTO media_work (media, tenant, kind, options, url) VALUES ($1, $2, $3, $4, $5)",
                one,
                victim.tenant,
                kind,
                GARBAGE,
                url,
            )


async def tenants(victim: Victim) -> None:
    """Tenants whose settings are none."""
    for settings in ("[]", '{"retention_seconds": "soon", "max_accounts": {}}', '{"retention_seconds": -5}'):
        await victim.database.execute(
            "INSERT INTO tenant (id, settings, state) VALUES ($1, $2, 77)", ids.new_uuid(), settings
        )


async def jobs(victim: Victim) -> None:
    """Jobs of every kind, about nothing; dry runs, too, since of some kinds there is one at a time."""
    for kind in (*job_pb2.JobKind.values(), 77):
        for number, detail in enumerate(("[]", '{"node": 7}')):
            await victim.database.execute(
                "INSERT INTO job (id, kind, state, subject, detail, error, dry_run)"
                " VALUES ($1, $2, 2, $3, $4, $5, $6)",
                ids.new_uuid(),
                kind,
                f"{GARBAGE!r} {number}",
                detail,
                GARBAGE,
                bool(number),
            )


async def accounts(victim: Victim) -> None:
    """Accounts of a driver that there is not, with settings that are none, and a state that cannot be opened;
    one of them in each sixteenth of the shards.
    """
    for shard in range(0, 4096, 256):
        account = ids.new_uuid()
        await victim.database.execute(
            "INSERT INTO account (id, tenant, driver, labels, settings, desired_state, shard)"
            " VALUES ($1, $2, $3, '[]', $4, 1, $5)",
            account,
            victim.tenant,
            "no such driver" if shard % 512 else "simulated",
            json.dumps({"send_limits": 7, "per_minute": "many"}),
            shard,
        )
        await victim.database.execute(
            "INSERT INTO session (account, tenant, epoch, node, state, cause, detail, phone, network_user_id,"
            " push_name, paired, recent_failures, sent, received, failed, connects, settings, update_time,"
            " hidden_id, restrictions)"
            " VALUES ($1, $2, 1, 'nobody', 4, 77, '', 'no phone', '', '', true, -1, 0, 0, 0, 0, $3, now(),"
            " '', $3)",
            account,
            victim.tenant,
            GARBAGE,
        )
        await victim.database.execute(
            "INSERT INTO credential (account, epoch, blob) VALUES ($1, 1, $2)", account, GARBAGE
        )
        await _messages(victim, account, shard)


async def _messages(victim: Victim, account: UUID, shard: int) -> None:
    """In the outbox of an account: one that is not there, and one that is no request. And a file to fetch."""
    for stored in (False, True):
        message = ids.new_uuid()
        if stored:
            await victim.database.execute(
                "INSERT INTO message"
                " (id, account, epoch, direction, status, chat, network_id, content, origin)"
                " VALUES ($1, $2, 1, $3, $4, 'no address', '', $5, 1)",
                message,
                account,
                message_pb2.DIRECTION_OUTBOUND,
                message_pb2.MESSAGE_STATUS_QUEUED,
                GARBAGE,
            )
        await victim.database.execute(
            "INSERT INTO outbox (shard, message, account, priority, due_at) VALUES ($1, $2, $3, 99, now())",
            shard,
            message,
            account,
        )
    await victim.database.execute(
        "INSERT INTO media_fetch (message, account, shard, blob) VALUES ($1, $2, $3, $4)",
        ids.new_uuid(),
        account,
        shard,
        GARBAGE,
    )


async def keys(victim: Victim) -> None:
    """Keys of the cluster that are named, or say, what none of its parts would."""
    root = f"/{victim.cluster}/"
    names = (
        "nodes/ghost",
        "owners/none",
        "owners/99999",
        "dead/",
        "loads/ghost",
        "jobs/ghost",
        "log_levels/all/",
    )
    kinds = tuple(f"services/{kind}/ghost" for kind in ("media", "webhook", "router", "simulator"))
    for name in (*names, *kinds):
        await victim.etcd.put((root + name).encode(), GARBAGE)


Poison = Callable[[Victim], Awaitable[None]]
ALL: tuple[Poison, ...] = (
    tenants,
    accounts,
    endpoints,
    events,
    deliveries,
    owed,
    subscriptions,
    objects,
    media,
    jobs,
    keys,
    notifications,
)
