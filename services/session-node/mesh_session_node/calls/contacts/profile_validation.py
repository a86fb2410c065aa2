"""Checks of what an account is to show of itself, and to whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import cache
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from mesh_core import validation
from mesh_core.errors import InvalidField
from sessionmesh.v1 import profile_pb2 as pb

MAX_PROFILE_NAME, MAX_ABOUT = 25, 139
MAX_DESCRIPTION, MAX_STREET_ADDRESS, MAX_EMAIL, MAX_VERTICAL = 512, 256, 128, 128
MAX_WEBSITES, MAX_WEBSITE = 2, 256
MAX_PERIODS = 4
"""Openings of one day."""
MAX_DISAPPEAR = timedelta(days=90)


def check_business(field: str, profile: pb.BusinessProfile, fields: Collection[str]) -> None:
    """Raises `InvalidField` for one of these fields of a business profile."""
    for name, most in _TEXTS.items():
        if name in fields:
            validation.text(f"{field}.{name}", getattr(profile, name), most)
    if "websites" in fields:
        if len(profile.websites) > MAX_WEBSITES:
            raise InvalidField(f"{field}.websites", f"must have at most {MAX_WEBSITES} entries")
        for at, address in enumerate(profile.websites):
            _check_website(f"{field}.websites[{at}]", address)
    if "hours" in fields and profile.HasField("hours"):
        _check_hours(f"{field}.hours", profile.hours)


def check_privacy(field: str, settings: pb.PrivacySettings, fields: Collection[str]) -> None:
    """Raises `InvalidField` for one of these privacy settings."""
    for name in fields:
        if (allowed := _AUDIENCES.get(name)) is not None:
            words = ", ".join(_audience(one) for one in allowed)
            validation.choice(f"{field}.{name}", getattr(settings, name), allowed, words)
    if "default_disappear_after" in fields:
        path, after = f"{field}.default_disappear_after", settings.default_disappear_after
        validation.duration(path, after, least=timedelta(), most=MAX_DISAPPEAR)
        if after.nanos:
            raise InvalidField(path, "must be whole seconds")


def _check_website(field: str, address: str) -> None:
    validation.required_text(field, address, MAX_WEBSITE)
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidField(field, "must be a web address: http://... or https://...")


def _check_hours(field: str, hours: pb.BusinessHours) -> None:
    if hours.time_zone not in _time_zones():
        raise InvalidField(
            f"{field}.time_zone", "must be the IANA name of a time zone, such as Europe/Berlin"
        )
    of_day = Counter[int]()
    for at, period in enumerate(hours.periods):
        path = f"{field}.periods[{at}]"
        if period.day not in _DAYS:
            raise InvalidField(f"{path}.day", "is required")
        if period.mode not in _MODES:
            raise InvalidField(f"{path}.mode", "is required")
        of_day[period.day] += 1
        if of_day[period.day] > MAX_PERIODS:
            raise InvalidField(f"{field}.periods", f"must have at most {MAX_PERIODS} entries for each day")
        _check_times(path, period)


def _check_times(path: str, period: pb.BusinessHoursPeriod) -> None:
    if period.mode != pb.BUSINESS_HOURS_MODE_SPECIFIC:
        for name in ("opens", "closes"):
            if getattr(period, name):
                raise InvalidField(f"{path}.{name}", "must be empty unless mode is SPECIFIC")
        return
    if not _time(period.opens):
        raise InvalidField(f"{path}.opens", "must be a time from 00:00 to 23:59")
    if not (_time(period.closes) or period.closes == "24:00") or period.closes <= period.opens:
        raise InvalidField(f"{path}.closes", "must be a time from 00:01 to 24:00, after opens")


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _audience(number: int) -> str:
    return pb.PrivacyAudience.Name(number).removeprefix("PRIVACY_AUDIENCE_")  # type: ignore[arg-type]


_time = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]").fullmatch
_DAYS = frozenset(pb.Weekday.values()) - {0}
_MODES = frozenset(pb.BusinessHoursMode.values()) - {0}
_TEXTS = {
    "description": MAX_DESCRIPTION,
    "street_address": MAX_STREET_ADDRESS,
    "email": MAX_EMAIL,
    "vertical": MAX_VERTICAL,
}
_USUAL = (pb.PRIVACY_AUDIENCE_EVERYONE, pb.PRIVACY_AUDIENCE_CONTACTS, pb.PRIVACY_AUDIENCE_NOBODY)
_AUDIENCES: Mapping[str, tuple[int, ...]] = {
    "last_seen": _USUAL,
    "online": (pb.PRIVACY_AUDIENCE_EVERYONE, pb.PRIVACY_AUDIENCE_SAME_AS_LAST_SEEN),
    "picture": _USUAL,
    "about": _USUAL,
    "status": _USUAL,
    "groups_add": _USUAL,
    "calls": (pb.PRIVACY_AUDIENCE_EVERYONE, pb.PRIVACY_AUDIENCE_KNOWN),
}
"""Whom each setting can be set to."""
