"""Every type of event, those included that this version does not send yet, by its payload."""

from __future__ import annotations

PAYLOADS: dict[str, tuple[str, ...]] = {
    "account": ("account.created", "account.updated", "account.deleted"),
    "session": ("session.state_changed", "session.restrictions_changed"),
    "pairing": ("session.pairing",),
    "message": ("message.received", "message.synced"),
    "message_status": (
        "message.queued",
        "message.sending",
        "message.sent",
        "message.delivered",
        "message.read",
        "message.played",
        "message.cancelled",
        "message.expired",
        "message.failed",
        "message.in_doubt",
    ),
    "message_changed": ("message.edited", "message.revoked"),
    "message_overdue": ("message.overdue",),
    "reaction": ("message.reaction",),
    "poll": ("poll.voted",),
    "media": ("media.ready", "media.failed"),
    "chat": ("chat.updated", "chat.cleared", "chat.deleted"),
    "label": ("label.created", "label.updated", "label.deleted"),
    "label_assignment": ("label.assignment_changed",),
    "history": ("history.synced",),
    "presence": ("presence.updated",),
    "contact": ("contact.updated", "contact.deleted"),
    "group": ("group.joined", "group.updated"),
    "group_members": ("group.members_changed",),
    "group_join_request": ("group.join_requested",),
    "community": ("community.joined", "community.updated", "community.deactivated"),
    "community_groups": ("community.groups_changed",),
    "channel": ("channel.followed", "channel.unfollowed", "channel.updated", "channel.deleted"),
    "channel_post": ("channel.post_updated",),
    "call": ("call.offered", "call.ended"),
    "template": ("template.updated",),
    "job": ("job.updated",),
    "test": ("webhook.test",),
    "endpoint_disabled": ("webhook.endpoint_disabled",),
    "subscription_expired": ("subscription.expired",),
}
"""The field of Event, and its types; `unrenderable` comes in place of any."""

PAYLOAD_OF = {event_type: payload for payload, types in PAYLOADS.items() for event_type in types}

EVENT_TYPES = frozenset(PAYLOAD_OF)

FAMILIES = frozenset(f"{event_type.partition('.')[0]}.*" for event_type in EVENT_TYPES)
"""What stands for all types that begin alike."""
