"""A valid request for every method that is served, about what lives in a `World`.

Requests that destroy get something of their own to destroy; the rest are about what the world keeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.message import Message

from tests.support.api_methods import ApiMethod, named
from tests.support.fuzz import valid_groups
from tests.support.fuzz.world import Fields, World, in_an_hour, new_phone, new_request, picture, unique

Make = Callable[[World], Awaitable[Fields]]


async def valid_frames(world: World, method: ApiMethod, variant: int = 0) -> list[Message]:
    """The frames of a call that is answered OK: one, but for methods that take a stream.

    `variant` counts the kinds of valid requests, of which there are `variants`.
    """
    if method.short in _STREAMS:
        return [new_request(method, fields) for fields in await _STREAMS[method.short](world)]
    if method.short in _PREPARED:
        return [new_request(method, await _PREPARED[method.short](world))]
    if method.short in _VARIED:
        return [new_request(method, _VARIED[method.short](world)[variant])]
    return [new_request(method, _SIMPLE[method.short](world))]


def variants(world: World, method: ApiMethod) -> int:
    return len(_VARIED[method.short](world)) if method.short in _VARIED else 1


def served_methods() -> list[ApiMethod]:
    """The methods that there are valid requests for. Those of the simulated network come last: others feel
    what they do to it.
    """
    names = {*_SIMPLE, *_PREPARED, *_VARIED, *_STREAMS}
    return sorted(map(named, names), key=lambda method: ("imulator" in method.service, method.short))


def live(*names: str, **fields: object) -> Callable[[World], Fields]:
    """Ids of what the world keeps, and other fields."""
    return lambda world: {name: world.live[name] for name in names} | fields


# --- content of messages

TEXT = {"text": {"body": "Hello", "preview_mode": 1}}


def contents(world: World) -> list[Fields]:
    """One of every kind that can be sent."""
    dot = {"media": {"media_id": world.live["media_id"]}, "caption": "A dot"}
    return [
        TEXT,
        {"image": dot},
        {"location": {"latitude": 48.1, "longitude": 11.5, "name": "Here"}},
        {"contact_cards": {"cards": [{"display_name": "Ann", "vcard": "BEGIN:VCARD\nEND:VCARD"}]}},
        {"poll": {"question": "Which?", "answers": ["One", "Another"], "max_choices": 1}},
        {"reaction": {"message": {"message_id": world.live["message_id"]}, "emoji": "\U0001f44d"}},
        {
            "buttons": {
                "body": "Choose",
                "buttons": [{"title": "Yes", "reply_id": "yes"}, {"title": "No", "reply_id": "no"}],
            }
        },
        {
            "list": {
                "body": "Choose",
                "button_title": "Open",
                "sections": [{"title": "All", "rows": [{"reply_id": "1", "title": "First"}]}],
            }
        },
        {"live_location": {"latitude": 48.1, "longitude": 11.5, "duration": {"seconds": 900}}},
        {"poll_vote": {"poll": elsewhere(world), "answers": ["One"]}},
        {"choice": {"message": elsewhere(world), "reply_id": "1", "title": "First"}},
        {
            "product_list": {
                "catalog_id": "1",
                "header": "Tea",
                "body": "All of it",
                "sections": [{"title": "Green", "product_ids": ["2"]}],
            }
        },
        {
            "flow": {
                "body": "Order",
                "flow_id": "9",
                "button_title": "Begin",
                "parameters": {"token": "t", "data_json": "{}"},
            }
        },
        {"location_request": {"body": "Where?"}},
        {"address_request": {"body": "Where to?", "country": "IN", "values": {"city": "Pune"}}},
        {"album": {"items": [{"image": dot}, {"image": dot}]}},
    ]


def elsewhere(world: World) -> Fields:
    """A message in the chat of `message` that the mesh has not stored."""
    return {
        "network_message_id": "3A0002",
        "chat": f"phone:{world.live['spare_phone']}",
        "from_account": True,
    }


def message(world: World, content: Fields = TEXT) -> Fields:
    return {
        "account_id": world.live["account_id"],
        "request_id": unique(),
        "recipient": f"phone:{world.live['spare_phone']}",
        "content": content,
        "external_id": "order 1",
        "labels": {"campaign": "spring"},
    }


# --- what is made to be changed or destroyed


async def new_account(world: World) -> str:
    made = await world("CreateAccount", account={"phone": new_phone()})
    return str(made.account.id)


async def own_account(world: World) -> Fields:
    return {"account_id": await new_account(world)}


async def short_attempt(world: World) -> Fields:
    """Attempts that nobody follows would keep those of others waiting."""
    return await own_account(world) | {"timeout": {"seconds": 1}}


async def answered_attempt(world: World) -> Fields:
    """Right in all but that the attempt does not ask: the simulated network never does."""
    account_id = await new_account(world)
    attempt_id = (await world.shown_step(account_id)).attempt_id
    return {"account_id": account_id, "attempt_id": attempt_id, "confirm": True}


async def deleted_account(world: World) -> Fields:
    account_id = await new_account(world)
    await world("DeleteAccount", account_id=account_id)
    return {"account_id": account_id}


async def paired_account(world: World) -> Fields:
    phone = new_phone()
    made = await world("CreateAccount", account={"phone": phone})
    await world.pair(made.account.id, phone)
    return {"account_id": made.account.id}


async def own_tenant(world: World) -> Fields:
    made = await world("CreateTenant", tenant={"external_id": unique("tenant")})
    return {"tenant_id": made.tenant.id}


async def changed_tenant(world: World) -> Fields:
    settings = {"max_accounts": 10, "calls_per_second": 100}
    tenant = {"display_name": "Fuzz", "settings": settings}
    mask = {"paths": ["display_name", "settings"]}
    return await own_tenant(world) | {"tenant": tenant, "update_mask": mask}


async def own_key(world: World) -> Fields:
    made = await world("CreateApiKey", scopes=[2])
    return {"key_id": made.api_key.id}


async def own_endpoint(world: World) -> Fields:
    made = await world("CreateEndpoint", endpoint={"url": world.live["url"], "event_types": ["webhook.test"]})
    return {"endpoint_id": made.endpoint.id}


async def own_subscription(world: World) -> Fields:
    made = await world("CreateSubscription", subscription={"name": unique("own")})
    return {"name": made.subscription.name}


async def own_media(world: World) -> Fields:
    return {"media_id": await world.upload()}


async def stored_bytes(world: World) -> Fields:
    found = await world("GetMedia", media_id=world.live["media_id"])
    return {"sha256": found.media.sha256}


async def queued_message(world: World) -> Fields:
    sent = await world("SendMessage", **message(world), schedule_time=in_an_hour())
    return {"account_id": world.live["account_id"], "message_id": sent.message.id}


async def connected(world: World) -> Fields:
    return await world.connected()


def acting(**fields: object) -> Make:
    """An act about a message that somebody wrote to the account, as the network alone knows it."""
    came = {
        "network_message_id": "3A0001",
        "chat": "phone:+4915100009998",
        "sender": "phone:+4915100009998",
    }

    async def make(world: World) -> Fields:
        about = {"messages": [came]} if fields.get("many") else {"message": came}
        given = {name: value for name, value in fields.items() if name != "many"}
        return await connected(world) | about | given

    return make


async def sent_message(world: World) -> Fields:
    """Of an account of its own: in the shared one's chat it may stand behind one whose file is fetched."""
    account = await paired_account(world)
    sent = await world("SendMessage", **(message(world) | account), wait_for=2)
    return account | {"message": {"message_id": sent.message.id}}


async def typing(world: World) -> Fields:
    return await connected(world) | {"chat": f"phone:{world.live['spare_phone']}", "state": 2}


async def rejected_call(world: World) -> Fields:
    return await connected(world) | {"call_id": "C1", "caller": "phone:+4915100009998"}


async def shown_presence(world: World) -> Fields:
    return await connected(world) | {"state": 1}


async def watched_person(world: World) -> Fields:
    return await connected(world) | {"address": "phone:+4915100009998"}


async def edited_message(world: World) -> Fields:
    return await sent_message(world) | {"content": TEXT}


async def shared_place(world: World) -> Fields:
    """Of an account of its own, whose outbox has nothing else."""
    account = await paired_account(world)
    place = {"live_location": {"latitude": 48.1, "longitude": 11.5}}
    sent = await world("SendMessage", **(message(world, place) | account), wait_for=2)
    return account | {
        "message": {"message_id": sent.message.id},
        "location": {"latitude": 48.2, "longitude": 11.5, "speed": 1.5, "heading": 90.0},
    }


async def forwarded_message(world: World) -> Fields:
    return await sent_message(world) | {"recipients": [f"phone:{world.live['spare_phone']}"]}


async def checked_numbers(world: World) -> Fields:
    return await connected(world) | {"phones": [f"phone:{world.live['spare_phone']}", new_phone()]}


async def blocked_person(world: World) -> Fields:
    return await connected(world) | {"address": f"phone:{new_phone()}", "blocked": True}


async def blocked_people(world: World) -> Fields:
    return await connected(world) | {"page_size": 10}


def about_person(**fields: object) -> Make:
    """A call about somebody whom nobody else has to do with."""

    async def make(world: World) -> Fields:
        return await connected(world) | {"address": f"phone:{new_phone()}"} | fields

    return make


def known_chat(**fields: object) -> Make:
    """A chat with a message, of an account of its own."""

    async def make(world: World) -> Fields:
        account = await paired_account(world)
        chat = f"phone:{new_phone()}"
        await world("SendMessage", **(message(world) | account | {"recipient": chat}))
        return account | {"address": chat} | fields

    return make


async def saved_contact(world: World) -> Fields:
    about = await about_person(full_name="Ada Lovelace", first_name="Ada")(world)
    await world("SaveContact", **about)
    return {"account_id": about["account_id"], "address": about["address"]}


async def resolved_people(world: World) -> Fields:
    return await connected(world) | {"addresses": [f"phone:{world.live['spare_phone']}", new_phone()]}


async def changed_profile(world: World) -> Fields:
    """Of an account of its own, which nobody knows by its name."""
    profile = {"name": "Fuzz", "about": "open"}
    return await paired_account(world) | {
        "profile": profile,
        "update_mask": {"paths": ["name", "about"]},
    }


async def changed_business(world: World) -> Fields:
    """Of an account of its own that is a business."""
    phone = new_phone()
    made = await world("CreateAccount", account={"phone": phone})
    await world.pair(made.account.id, phone)
    await world("ChangeNetworkPerson", phone=phone, business=True)
    period = {"day": 1, "mode": 1, "opens": "09:00", "closes": "18:00"}
    profile = {"description": "Tools", "hours": {"time_zone": "Europe/Berlin", "periods": [period]}}
    mask = {"paths": ["description", "hours"]}
    return {"account_id": made.account.id, "business_profile": profile, "update_mask": mask}


async def changed_privacy(world: World) -> Fields:
    mask = {"paths": ["last_seen", "default_disappear_after"]}
    settings = {"last_seen": 7, "default_disappear_after": {"seconds": 86_400}}
    return await paired_account(world) | {"privacy_settings": settings, "update_mask": mask}


async def past_of_chat(world: World) -> Fields:
    """Of an account of its own, whose jobs are few."""
    before = {"before_time": {"seconds": 1_700_000_000}, "max_messages": 10}
    return await paired_account(world) | {"request_id": unique(), "chat": f"phone:{new_phone()}"} | before


async def changed_chat(world: World) -> Fields:
    chat = {"address": f"phone:{new_phone()}", "pinned": True, "mute_until": {"seconds": 4_000_000_000}}
    return await connected(world) | {"chat": chat, "update_mask": {"paths": ["pinned", "mute_until"]}}


async def own_label(world: World) -> Fields:
    account = await connected(world)
    label = (await world("CreateLabel", **account, request_id=unique(), name=unique())).label
    return account | {"label_id": label.id}


async def new_label(world: World) -> Fields:
    return await connected(world) | {"request_id": unique(), "name": unique(), "color": 3}


async def changed_label(world: World) -> Fields:
    label = await own_label(world)
    given = {"id": label.pop("label_id"), "name": unique(), "color": 4}
    return label | {"label": given, "update_mask": {"paths": ["name", "color"]}}


async def labelled_chat(world: World) -> Fields:
    return await own_label(world) | {"chat": f"phone:{new_phone()}", "labelled": True}


async def labelled_message(world: World) -> Fields:
    return await own_label(world) | await acting(labelled=True)(world)


async def own_group(world: World) -> Fields:
    members = [world.live["phone"], world.live["spare_phone"]]
    made = await world("CreateNetworkGroup", subject="Fuzz", members=members)
    return {"group": made.group.address, "add": [new_phone()], "remove": members[1:]}


async def channel_of_others(world: World) -> Fields:
    """A channel that nobody else changes, with a post."""
    made = await world("CreateNetworkChannel", name="Fuzz")
    posted = await world("PostInNetworkChannel", channel=made.channel.address, text="Hello")
    return {"channel": made.channel.address, "network_message_id": posted.network_message_id}


def of_channel(**fields: object) -> Make:
    """About a channel of others that the connected account follows."""

    async def make(world: World) -> Fields:
        channel = (await channel_of_others(world))["channel"]
        account = await connected(world)
        await world("FollowChannel", channel=channel, **account)
        return account | {"channel": channel} | fields

    return make


async def own_channel(world: World) -> Fields:
    account = await connected(world)
    made = await world("CreateChannel", name="Fuzz", **account)
    return account | {"channel": made.channel.address, "etag": made.channel.etag}


async def changed_channel(world: World) -> Fields:
    own = await own_channel(world)
    channel = {"address": own["channel"], "name": "Better", "description": "x", "reactions": 2}
    mask = {"paths": ["name", "description", "reactions"]}
    return {"account_id": own["account_id"], "channel": channel, "update_mask": mask}


async def made_channel(world: World) -> Fields:
    return await connected(world) | {"request_id": unique(), "name": "Fuzz", "description": "About"}


async def network_channel(world: World) -> Fields:
    return {"channel": (await channel_of_others(world))["channel"], "name": "Other"}


async def network_post(world: World) -> Fields:
    return {"channel": (await channel_of_others(world))["channel"], "text": "Hello", "count": 2}


async def network_reaction(world: World) -> Fields:
    return await channel_of_others(world) | {"emoji": "\U0001f44d", "count": 3, "views": 9}


async def ringing_call(world: World) -> Fields:
    phone = world.live["spare_phone"]
    placed = await world("PlaceCall", phone=phone, caller=f"phone:{new_phone()}")
    return {"phone": phone, "call_id": placed.call_id, "end": 4}


async def shown_code(world: World) -> Fields:
    phone = new_phone()
    made = await world("CreateAccount", account={"phone": phone})
    return {"qr": await world.shown_qr(made.account.id), "phone": phone}


async def upload(world: World) -> list[Fields]:
    data = picture()
    header = {
        "request_id": unique(),
        "size_bytes": len(data),
        "options": {
            "file_name": "dot.png",
            "mime_type": "image/png",
            "labels": {"kind": "dot"},
            "keep_for": {"seconds": 86_400},
        },
    }
    return [{"header": header}, {"chunk": data}]


async def bulk(world: World) -> list[Fields]:
    return [{"messages": [message(world), message(world)]}, {"messages": [message(world)]}]


_SIMPLE: dict[str, Callable[[World], Fields]] = {
    "AccountService.CreateAccount": lambda world: {
        "account": {
            "external_id": unique(),
            "display_name": "Fuzz",
            "phone": new_phone(),
            "labels": {"team": "one"},
            "send_limits": {"per_minute": 10},
        }
    },
    "AccountService.GetAccount": live("account_id"),
    "AccountService.ListAccounts": live(page_size=10, labels={"team": "one"}),
    "AccountService.UpdateAccount": live(
        "account_id",
        account={"display_name": "Fuzz", "labels": {"team": "one"}, "send_limits": {"per_hour": 1_000}},
        update_mask={"paths": ["display_name", "labels", "send_limits"]},
    ),
    "ChatService.ListChats": live("account_id", page_size=10, show_archived=True, label_id="7"),
    "ChatService.ListLabels": live("account_id", page_size=10),
    "EventService.AcknowledgeEvents": live("name", "cursor"),
    "EventService.CreateSubscription": lambda world: {
        "subscription": {
            "name": unique(),
            "event_types": ["message.*"],
            "account_ids": [world.live["account_id"]],
            "labels": {"team": "one"},
        }
    },
    "EventService.GetSubscription": live("name"),
    "EventService.ListEvents": live("cursor", page_size=10, event_types=["message.*"]),
    "EventService.ListSubscriptions": live(page_size=10),
    "EventService.Subscribe": live("cursor", event_types=["message.*"]),
    "FleetService.ConnectAccounts": live("tenant_id", "node_id", dry_run=True),
    "FleetService.DrainNode": live("node_id", force=True),
    "FleetService.ClearCaches": live("tenant_id"),
    "FleetService.GetCapacity": live(),
    "FleetService.GetPlacement": live("account_id"),
    "FleetService.ListNodes": live(page_size=10),
    "FleetService.PlanCapacity": live(accounts=1_000, messages_per_second=10.0, spare_nodes=1),
    "FleetService.SetLogLevel": live(part_id="media", level=2, logger="mesh_media", duration={"seconds": 1}),
    "FleetService.UndrainNode": live("node_id"),
    "FleetService.WatchFleet": live(),
    "AuditService.ListAuditEvents": live(
        page_size=10, method="/sessionmesh.v1.AccountService/CreateAccount", failed_only=True
    ),
    "JobService.CancelJob": live("job_id"),
    "JobService.GetJob": live("job_id"),
    "JobService.ListJobs": live(page_size=10),
    "JobService.WatchJob": live("job_id"),
    "MediaService.CreateDownloadUrl": live("media_id", ttl={"seconds": 60}),
    "MediaService.DownloadMedia": live("media_id", offset_bytes=1, limit_bytes=10),
    "MediaService.FetchMedia": live(
        "account_id", url="https://example.com/a.png", headers={"x-key": "secret"}, options={"purpose": 1}
    ),
    "MediaService.GetMedia": live("media_id"),
    "MediaService.GetMediaPolicy": live(),
    "MediaService.GetMediaUsage": live(),
    "MediaService.ListAccountMediaUsage": live("account_id", page_size=10),
    "MediaService.ListMedia": live(page_size=10, filter={"mime_type_prefix": "image/"}),
    "MediaService.MigrateStorage": live(target_store="main", bytes_per_second=1_000_000, dry_run=True),
    "MediaService.PruneMedia": live(filter={"mime_type_prefix": "image/", "category": 1}, dry_run=True),
    "MediaService.ScanStorage": live(dry_run=True),
    "MediaService.UpdateMediaPolicy": live(
        policy={
            "compression": 2,
            "retention_rules": [{"category": 2, "keep_for": {"seconds": 86_400}, "max_bytes": 1 << 40}],
        },
        update_mask={"paths": ["compression", "retention_rules"]},
    ),
    "MessageService.BatchSendMessages": lambda world: {"messages": [message(world), message(world)]},
    "MessageService.ReactToMessage": lambda world: {
        "account_id": world.live["account_id"],
        "message": {"message_id": world.live["message_id"]},
        "emoji": "\U0001f44d",
    },
    "MessageService.GetMessage": lambda world: {
        "account_id": world.live["account_id"],
        "message": {"message_id": world.live["message_id"]},
    },
    "MessageService.ListMessages": live("account_id", page_size=10, statuses=[10], start_time={"seconds": 1}),
    "MessageService.ListReceipts": lambda world: {
        "account_id": world.live["account_id"],
        "message": {"message_id": world.live["group_message_id"]},
        "page_size": 10,
    },
    "ServerService.GetServerInfo": live(),
    "SessionService.Connect": live("account_id"),
    "SessionService.Disconnect": lambda world: {"account_id": world.live["spare_account_id"]},
    "SessionService.GetSession": live("account_id"),
    "SessionService.GetSessionSettings": live("account_id"),
    "SessionService.ListDisconnects": live("account_id", page_size=10),
    "SessionService.ListSessions": live(page_size=10, states=[4]),
    "SessionService.UpdateSessionSettings": lambda world: {
        "account_id": world.live["spare_account_id"],
        "settings": {
            "auto_read": False,
            "reject_calls_text": "Write to me",
            "fetch_media_up_to_bytes": 1_000_000,
            "device_name": "Fuzz",
            "pacing": {"min_gap": {"nanos": 1_000}, "max_gap": {"nanos": 2_000}, "show_typing": False},
            "warm_up": {"messages_per_day": [100_000]},
        },
        "update_mask": {
            "paths": [
                "auto_read",
                "reject_calls_text",
                "fetch_media_up_to_bytes",
                "device_name",
                "pacing",
                "warm_up",
            ]
        },
    },
    "SessionService.WatchSession": live("account_id"),
    "SimulatorService.ChangeNetworkContact": live("phone", contact="+4915100009998", full_name="Ada"),
    "SimulatorService.ChangeNetworkPerson": lambda world: {
        "phone": new_phone(),
        "push_name": "Ada",
        "about": "at sea",
        "business": True,
    },
    "SimulatorService.ClearFaults": live("phone"),
    "SimulatorService.CreateNetworkAccount": lambda world: {"phone": new_phone(), "push_name": "Fuzz"},
    "SimulatorService.CreateNetworkChannel": live(
        name="Fuzz", description="About", verified=True, followers=3
    ),
    "SimulatorService.CreateNetworkGroup": lambda world: {
        "subject": "Fuzz",
        "members": [world.live["phone"], world.live["spare_phone"]],
        "admins": [world.live["phone"]],
    },
    "SimulatorService.ExportLedger": live(),
    "SimulatorService.GetNetworkAccount": live("phone"),
    "SimulatorService.GetNetworkStats": live(),
    "SimulatorService.GetVerdict": live(calls=[{"request_id": "r", "account": "a", "message_id": "m"}]),
    "SimulatorService.InjectFault": lambda world: {
        "kind": 3,
        "phone": world.live["spare_phone"],
        "duration": {"seconds": 1},
        "delay": {"nanos": 1_000},
    },
    "SimulatorService.InjectMessage": lambda world: {
        "phone": world.live["phone"],
        "sender": f"phone:{new_phone()}",
        "push_name": "Ann",
        "text": "Hello",
    },
    "SimulatorService.IssueCredential": lambda world: {"phone": world.live["spare_phone"]},
    "SimulatorService.ListNetworkAccounts": live(page_size=10),
    "SimulatorService.ActOnPhone": lambda world: {
        "phone": world.live["spare_phone"],
        "chat": f"phone:{new_phone()}",
        "labelling": {"label_id": "7", "labelled": True},
    },
    "SimulatorService.GivePhoneHistory": lambda world: {
        "phone": world.live["spare_phone"],
        "chat": f"phone:{new_phone()}",
        "messages": 10,
    },
    "SimulatorService.PlaceCall": lambda world: {
        "phone": world.live["spare_phone"],
        "caller": f"phone:{new_phone()}",
        "video": True,
    },
    "SimulatorService.PutNetworkBlob": live(data=b"some bytes"),
    "SimulatorService.SetBehaviour": lambda world: {
        "phone": world.live["spare_phone"],
        "behaviour": {"delivered_after": {"nanos": 1_000}, "messages_per_minute": 100},
    },
    "SimulatorService.SetNetwork": live(
        accept_after={"nanos": 1_000}, unregistered_phones=["+4915100000000"]
    ),
    "SimulatorService.ShowPresence": lambda world: {"person": f"phone:{new_phone()}", "online": True},
    "SimulatorService.ShowTyping": lambda world: {
        "phone": world.live["spare_phone"],
        "sender": f"phone:{new_phone()}",
        "state": 1,
    },
    "TenantService.CreateApiKey": live(
        display_name="Fuzz", scopes=[2], expire_time={"seconds": 4_000_000_000}
    ),
    "TenantService.CreateTenant": lambda world: {
        "tenant": {"external_id": unique(), "display_name": "Fuzz", "settings": {"max_accounts": 1}}
    },
    "TenantService.ErasePersonData": live(address="phone:+4915100009999"),
    "TenantService.ExportPersonData": live(address="phone:+4915100009999"),
    "TenantService.GetTenant": live("tenant_id"),
    "TenantService.GetTenantUsage": live(
        "tenant_id", start_time={"seconds": 1_790_000_000}, end_time={"seconds": 1_800_000_000}
    ),
    "TenantService.ListApiKeys": live(page_size=10),
    "TenantService.ListTenants": live(page_size=10),
    "WebhookService.CreateEndpoint": lambda world: {
        "endpoint": {
            "url": world.live["url"],
            "display_name": "Fuzz",
            "event_types": ["webhook.test"],
            "account_ids": [world.live["account_id"]],
            "labels": {"team": "one"},
            "headers": {"x-team": "one"},
            "rate_per_second": 10,
        }
    },
    "WebhookService.GetEndpoint": live("endpoint_id"),
    "WebhookService.GetEndpointStats": live("endpoint_id", window={"seconds": 3_600}),
    "WebhookService.ListAttempts": live("delivery_id", page_size=10),
    "WebhookService.ListDeliveries": live("endpoint_id", page_size=10),
    "WebhookService.ListEndpoints": live(page_size=10),
    "WebhookService.Redeliver": live("delivery_id"),
    "WebhookService.ReplayEvents": live(
        "endpoint_id", start_time={"seconds": 1}, event_types=["webhook.*"], dry_run=True
    ),
    "WebhookService.RotateSecret": live("endpoint_id", overlap={"seconds": 60}),
    "WebhookService.TestEndpoint": live("endpoint_id", event_type="message.received"),
    "WebhookService.UpdateEndpoint": live(
        "endpoint_id",
        endpoint={"display_name": "Fuzz", "labels": {"team": "one"}, "rate_per_second": 10},
        update_mask={"paths": ["display_name", "labels", "rate_per_second"]},
    ),
}
_PREPARED: dict[str, Make] = {
    **valid_groups.PREPARED,
    "AccountService.DeleteAccount": own_account,
    "AccountService.UndeleteAccount": deleted_account,
    "CallService.RejectCall": rejected_call,
    "ChannelService.CreateChannel": made_channel,
    "ChannelService.DeleteChannel": own_channel,
    "ChannelService.FetchChannel": of_channel(),
    "ChannelService.FollowChannel": of_channel(),
    "ChannelService.GetChannel": of_channel(),
    "ChannelService.ListChannelPosts": of_channel(page_size=10),
    "ChannelService.ListChannels": blocked_people,
    "ChannelService.SetChannelMuted": of_channel(muted=True),
    "ChannelService.UnfollowChannel": of_channel(),
    "ChannelService.UpdateChannel": changed_channel,
    "ChatService.ClearChat": known_chat(),
    "ChatService.CreateLabel": new_label,
    "ChatService.DeleteChat": known_chat(),
    "ChatService.DeleteLabel": own_label,
    "ChatService.GetChat": known_chat(),
    "ChatService.MarkChatRead": known_chat(),
    "ChatService.SetChatLabel": labelled_chat,
    "ChatService.SetMessageLabel": labelled_message,
    "ChatService.SyncHistory": past_of_chat,
    "ChatService.UpdateChat": changed_chat,
    "ChatService.UpdateLabel": changed_label,
    "ContactService.CheckNumbers": checked_numbers,
    "ContactService.DeleteContact": saved_contact,
    "ContactService.FetchContact": about_person(),
    "ContactService.GetContact": saved_contact,
    "ContactService.GetContactBusinessProfile": about_person(),
    "ContactService.GetContactPicture": about_person(preview=True),
    "ContactService.ListBlocked": blocked_people,
    "ContactService.ListContacts": blocked_people,
    "ContactService.ResolveIdentities": resolved_people,
    "ContactService.SaveContact": about_person(full_name="Ada Lovelace", first_name="Ada"),
    "ContactService.SetBlocked": blocked_person,
    "EventService.DeleteSubscription": own_subscription,
    "MediaService.DeleteMedia": own_media,
    "MediaService.LookupMedia": stored_bytes,
    "MessageService.CancelMessage": queued_message,
    "MessageService.DeleteMessageForMe": acting(delete_media=True),
    "MessageService.EditMessage": edited_message,
    "MessageService.ForwardMessage": forwarded_message,
    "MessageService.MarkPlayed": acting(many=True),
    "MessageService.MarkRead": acting(many=True),
    "MessageService.RevokeMessage": sent_message,
    "MessageService.SetMessagePinned": acting(pinned=True, duration={"seconds": 86_400}),
    "MessageService.SetMessageStarred": acting(starred=True),
    "MessageService.SetTyping": typing,
    "MessageService.UpdateLiveLocation": shared_place,
    "PresenceService.SetPresence": shown_presence,
    "PresenceService.WatchPresence": watched_person,
    "ProfileService.GetBusinessProfile": connected,
    "ProfileService.GetPrivacySettings": connected,
    "ProfileService.GetProfile": connected,
    "ProfileService.UpdateBusinessProfile": changed_business,
    "ProfileService.UpdatePrivacySettings": changed_privacy,
    "ProfileService.UpdateProfile": changed_profile,
    "SessionService.AnswerPairing": answered_attempt,
    "SessionService.Logout": paired_account,
    "SessionService.Pair": short_attempt,
    "SimulatorService.AcceptPairing": shown_code,
    "SimulatorService.ChangeNetworkGroupMembers": own_group,
    "SimulatorService.ChangeNetworkChannel": network_channel,
    "SimulatorService.EndCall": ringing_call,
    "SimulatorService.PostInNetworkChannel": network_post,
    "SimulatorService.ReactInNetworkChannel": network_reaction,
    "TenantService.DeleteTenant": own_tenant,
    "TenantService.RevokeApiKey": own_key,
    "TenantService.RotateApiKey": own_key,
    "TenantService.UpdateTenant": changed_tenant,
    "WebhookService.DeleteEndpoint": own_endpoint,
}
_VARIED: dict[str, Callable[[World], list[Fields]]] = {
    "MessageService.SendMessage": lambda world: [message(world, content) for content in contents(world)],
}
_STREAMS: dict[str, Callable[[World], Awaitable[list[Fields]]]] = {
    "MediaService.UploadMedia": upload,
    "MessageService.SendMessages": bulk,
}
