"""Queries about what the account itself shows, and to whom."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.queries import Handlers, done, error
from mesh_simulator.accounts.shown import ALLOWED, AUDIENCES, Shown
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_NAME, MAX_ABOUT = 25, 139
"""Characters."""
MAX_DISAPPEAR_SECONDS = 90 * 86_400
"""The longest that a message may wait to disappear."""


class ProfileQueries:
    """Answers them from the directory."""

    def __init__(
        self,
        directory: Directory,
        read_blob: Callable[[str], bytes | None],
        tell: Callable[[Account], None],
    ) -> None:
        """`tell` tells whom it concerns that a person shows something else."""
        self._directory = directory
        self._read_blob = read_blob
        self._tell = tell

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return {
            "get_profile": self._profile,
            "change_profile": self._change_profile,
            "change_business_profile": self._change_business,
            "get_privacy": self._privacy,
            "change_privacy": self._change_privacy,
        }

    def _profile(self, account: Account, query: wire.Query) -> wire.Answer:
        shown = account.shown or Shown()
        own = wire.OwnProfile(push_name=account.push_name, about=shown.about, picture_id=shown.picture_id)
        return wire.Answer(id=query.id, own_profile=own)

    def _change_profile(self, account: Account, query: wire.Query) -> wire.Answer:
        change = query.change_profile
        if len(change.push_name) > MAX_NAME or len(change.about) > MAX_ABOUT:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "too long")
        if change.picture_ref:
            data = self._read_blob(change.picture_ref)
            if data is None or not data.startswith(_JPEG):
                return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "not a JPEG")
        self.change(account, change)
        return self._profile(account, query)

    def change(self, account: Account, change: wire.ChangeProfile) -> None:
        """What an account shows is changed, here or on its phone."""
        shown = account.shown = account.shown or Shown()
        if change.HasField("push_name"):
            account.push_name = change.push_name
        if change.HasField("about"):
            shown.about = change.about
        if change.HasField("picture_ref"):
            shown.picture_ref = change.picture_ref
            shown.picture_id = str(time.time_ns() // 1000) if change.picture_ref else ""
        self._directory.save_account(account)
        self._tell(account)

    def _change_business(self, account: Account, query: wire.Query) -> wire.Answer:
        shown = account.shown
        if shown is None or shown.business is None:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "not a business")
        change = query.change_business_profile
        profile = wire.BusinessProfile.FromString(shown.business)
        for field in change.fields:
            if field not in wire.BusinessProfile.DESCRIPTOR.fields_by_name:
                return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "no such field")
            profile.ClearField(field)  # type: ignore[arg-type]  # looked up
        given = change.profile
        for descriptor, _ in given.ListFields():
            if descriptor.name not in change.fields:
                given.ClearField(descriptor.name)  # type: ignore[arg-type]  # one of its own
        profile.MergeFrom(given)
        shown.business = profile.SerializeToString()
        self._directory.save_account(account)
        return done(query, None)

    def _privacy(self, account: Account, query: wire.Query) -> wire.Answer:
        shown = account.shown or Shown()
        settings = wire.PrivacySettings(
            **{name: shown.audience(name) for name in AUDIENCES},
            read_receipts=shown.read_receipts,
            default_disappear_seconds=shown.default_disappear_seconds,
        )
        return wire.Answer(id=query.id, privacy=settings)

    def _change_privacy(self, account: Account, query: wire.Query) -> wire.Answer:
        change = query.change_privacy.settings
        wanted = {name: getattr(change, name) for name in AUDIENCES if getattr(change, name)}
        if any(audience not in ALLOWED[name] for name, audience in wanted.items()):
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "not to be chosen here")
        if change.default_disappear_seconds > MAX_DISAPPEAR_SECONDS:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "too long")
        shown = account.shown = account.shown or Shown()
        shown.audiences |= wanted
        if change.HasField("read_receipts"):
            shown.read_receipts = change.read_receipts
        if change.HasField("default_disappear_seconds"):
            shown.default_disappear_seconds = change.default_disappear_seconds
        self._directory.save_account(account)
        return done(query, None)


_JPEG = b"\xff\xd8\xff"
