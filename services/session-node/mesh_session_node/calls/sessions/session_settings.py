"""The calls of SessionService about a session's settings."""

from __future__ import annotations

import time
from datetime import timedelta

from mesh_core import validation
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_session_node.account.session import Session
from mesh_session_node.account.views import settings_view, snapshot
from mesh_session_node.calls import outcomes
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.context.account_settings import proxy_binding
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.inbound import by_settings
from sessionmesh.v1 import session_pb2 as pb
from sessionmesh.v1 import session_pb2_grpc

MAX_REJECT_TEXT = 1024
MAX_DEVICE_NAME = 50
MAX_FETCHED = 2 * 1024**3
"""The largest files that networks have, in bytes."""
MAX_GAP, MAX_TYPING = timedelta(minutes=10), timedelta(minutes=1)
MAX_WARM_UP_DAYS = 60
MAX_DAILY = 1_000_000
"""Messages that a plan may allow on one day."""


class SessionSettingsCalls(session_pb2_grpc.SessionServiceServicer):
    """Part of `SessionService`."""

    def __init__(self, calls: AccountCalls) -> None:
        self._calls = calls

    async def GetSessionSettings(
        self, request: pb.GetSessionSettingsRequest, context: Context
    ) -> pb.GetSessionSettingsResponse:
        session = await self._calls.session(request.account_id, context)
        return pb.GetSessionSettingsResponse(settings=settings_view(session.context.settings))

    async def UpdateSessionSettings(
        self, request: pb.UpdateSessionSettingsRequest, context: Context
    ) -> pb.UpdateSessionSettingsResponse:
        session = await self._calls.session(request.account_id, context)
        given, paths = request.settings, validation.field_mask(request.update_mask, _SETTABLE)
        validation.check_etag(given.etag, session.context.settings.version)
        _check(given, paths)
        if "proxy_url" in paths and given.proxy_url:
            if Capability.PROXY not in session.context.driver.capabilities:
                raise outcomes.lacking(Capability.PROXY.value)
            await session.context.host.proxies.check("settings.proxy_url", given.proxy_url)
        settings = await self._update(session, given, paths, every=[*request.update_mask.paths] == ["*"])
        return pb.UpdateSessionSettingsResponse(settings=settings)

    async def _update(
        self, session: Session, given: pb.SessionSettings, paths: frozenset[str], *, every: bool
    ) -> pb.SessionSettings:
        """Nothing waits between the check of the etag and the change, so that no other one comes between."""
        before = session.context.settings
        validation.check_etag(given.etag, before.version)
        self._calls.check_runs(session)
        if session.state == pb.SESSION_STATE_PAIRING:
            raise FailedPrecondition("the account is being paired", "PAIRING_IN_PROGRESS")
        merged = pb.SessionSettings()
        merged.CopyFrom(before.given)
        for path in paths - {"proxy_url"}:
            merged.ClearField(path)  # type: ignore[arg-type]  # it is one of the message's fields
            _copy(given, merged, path)
        proxy_url = before.proxy_url
        if "proxy_url" in paths and (given.proxy_url or not every):
            proxy_url = given.proxy_url
        _apply(session, merged, proxy_url)
        await in_time(self._calls.write(session, snapshot(session)))
        return settings_view(session.context.settings)


def _apply(session: Session, given: pb.SessionSettings, proxy_url: str) -> None:
    """Have the session behave so from now on. Another proxy has a live one connect anew."""
    context = session.context
    before, sealed = context.settings, b""
    if proxy_url:
        binding = proxy_binding(context.ref.uuid.bytes)
        sealed = context.host.seal(context.ref.tenant, proxy_url.encode(), binding)
    context.settings = before.updated(given, proxy_url, sealed)
    if context.settings.pair_time is None and session.paired and given.HasField("warm_up"):
        context.settings = context.settings.paired_at(time.time_ns() // 1000)
    session.sender.settings_changed()
    if proxy_url != before.proxy_url and context.link is not None:
        session.connector.connect_anew("the account has another proxy")
    elif given.show_online != before.given.show_online:
        by_settings.show_online(context)


def _copy(source: pb.SessionSettings, target: pb.SessionSettings, path: str) -> None:
    """What is absent there stays absent here."""
    field = _FIELDS[path]
    if field.has_presence and not source.HasField(path):  # type: ignore[arg-type]  # it is one of its fields
        return
    if field.message_type is None:
        setattr(target, path, getattr(source, path))
    else:
        getattr(target, path).CopyFrom(getattr(source, path))


def _check(given: pb.SessionSettings, paths: frozenset[str]) -> None:
    """Raises `InvalidField` for the first value of the mask's that cannot be."""
    for path, check in _CHECKS.items():
        if path in paths:
            check(given)


def _check_text(given: pb.SessionSettings) -> None:
    validation.text("settings.reject_calls_text", given.reject_calls_text, MAX_REJECT_TEXT)


def _check_name(given: pb.SessionSettings) -> None:
    validation.visible_text("settings.device_name", given.device_name, MAX_DEVICE_NAME)


def _check_fetched(given: pb.SessionSettings) -> None:
    if not 0 <= given.fetch_media_up_to_bytes <= MAX_FETCHED:
        raise InvalidField("settings.fetch_media_up_to_bytes", f"must be between 0 and {MAX_FETCHED}")


def _check_pacing(given: pb.SessionSettings) -> None:
    pacing = given.pacing
    nothing = timedelta()
    for name, most in (("min_gap", MAX_GAP), ("max_gap", MAX_GAP), ("max_typing", MAX_TYPING)):
        if pacing.HasField(name):  # type: ignore[arg-type]  # it is one of the message's fields
            validation.duration(f"settings.pacing.{name}", getattr(pacing, name), least=nothing, most=most)
    if pacing.HasField("max_gap") and pacing.max_gap.ToNanoseconds() < pacing.min_gap.ToNanoseconds():
        raise InvalidField("settings.pacing.max_gap", "must not be shorter than min_gap")


def _check_warm_up(given: pb.SessionSettings) -> None:
    days = given.warm_up.messages_per_day
    if len(days) > MAX_WARM_UP_DAYS:
        raise InvalidField(
            "settings.warm_up.messages_per_day", f"must have at most {MAX_WARM_UP_DAYS} entries"
        )
    for at, messages in enumerate(days):
        if not 1 <= messages <= MAX_DAILY:
            raise InvalidField(
                f"settings.warm_up.messages_per_day[{at}]", f"must be between 1 and {MAX_DAILY}"
            )


_CHECKS = {
    "reject_calls_text": _check_text,
    "fetch_media_up_to_bytes": _check_fetched,
    "device_name": _check_name,
    "pacing": _check_pacing,
    "warm_up": _check_warm_up,
}
_FIELDS = pb.SessionSettings.DESCRIPTOR.fields_by_name
_SETTABLE = frozenset(_FIELDS) - {"has_proxy", "etag"}
