"""The section `[session]` of a session-node's settings."""

from __future__ import annotations

import msgspec

from mesh_core.settings import Positive, Seconds


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How sessions behave. Times in seconds."""

    send_per_minute: Positive = 60
    send_per_hour: Positive = 1_000
    send_per_day: Positive = 10_000
    outbox: Positive = 10_000
    jitter_seconds: Seconds = 0.0
    connects_per_second: Positive = 500
    connects_at_once: Positive = 200
    keepalive_seconds: Positive = 10
    failures_per_hour: Positive = 5
    pairings_at_once: Positive = 50
    pairing_interval_seconds: Seconds = 600.0
    reconcile_seconds: Positive = 60
    media_transfers: Positive = 8
    fetch_media_up_to: Positive = 16 * 1024 * 1024
