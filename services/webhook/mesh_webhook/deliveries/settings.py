"""How deliveries are made: section `webhook` of the service's settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mesh_core.settings import InvalidSetting, Positive

PositiveSeconds = Annotated[float, Meta(gt=0)]


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`defaults.toml` of this service says what each setting means."""

    retry_schedule: tuple[Annotated[float, Meta(ge=0)], ...]
    timeout_seconds: PositiveSeconds = 20.0
    lease_seconds: PositiveSeconds = 40.0
    in_flight: Positive = 256
    in_flight_per_endpoint: Positive = 16
    disable_after_days: PositiveSeconds = 5.0
    retention_days: Positive = 7
    allow_private_addresses: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        if not self.retry_schedule or self.retry_schedule[0] != 0:
            raise InvalidSetting("retry_schedule", "must begin with 0: the first attempt is made at once")
        if self.lease_seconds < self.timeout_seconds + 1:
            raise InvalidSetting("lease_seconds", "must be at least a second longer than timeout_seconds")
