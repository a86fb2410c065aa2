"""The fields of an account that callers give, checked."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mesh_core import validation
from mesh_router.accounts.rows import LIMITS, stored_driver, stored_limits
from sessionmesh.v1 import account_pb2

CHANGEABLE = ("display_name", "phone", "labels", "desired_state", "send_limits")


@dataclass(frozen=True, slots=True)
class Fields:
    """As the columns of the same names store them; `settings` has the send limits."""

    external_id: str | None
    driver: str
    display_name: str
    phone: str
    labels: str
    desired_state: int
    settings: str


def checked(account: account_pb2.Account) -> Fields:
    """The fields of `account`; raises `InvalidField` with paths such as `account.phone`."""
    validation.choice("account.driver", account.driver, account_pb2.Driver.values(), _DRIVERS)
    validation.choice(
        "account.desired_state", account.desired_state, account_pb2.DesiredState.values(), "ONLINE, PAUSED"
    )
    for name in LIMITS:
        validation.at_least(f"account.send_limits.{name}", getattr(account.send_limits, name), 0)
    return Fields(
        external_id=validation.text("account.external_id", account.external_id) or None,
        driver=stored_driver(account.driver or account_pb2.DRIVER_SIMULATED),
        display_name=validation.text("account.display_name", account.display_name),
        phone=validation.phone("account.phone", account.phone) if account.phone else "",
        labels=json.dumps(validation.labels("account.labels", account.labels)),
        desired_state=account.desired_state or account_pb2.DESIRED_STATE_ONLINE,
        settings=stored_limits(account.send_limits),
    )


_DRIVERS = "SIMULATED, WHATSAPP_WEB, WHATSAPP_CLOUD"
