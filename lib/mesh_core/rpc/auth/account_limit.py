"""What a key that is limited to accounts may call: decided by the protos, in one place for every method.

It may call what is about one account, by the field `account_id` of the request (or of a stream's first
frame), and what shows only its accounts' things, which the proto marks `filtered_by_account`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from google.api import field_behavior_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message

from mesh_core.errors import InvalidArgument, NotFound, PermissionDenied
from mesh_core.rpc.auth.identity import Identity
from sessionmesh.v1 import authorization_pb2


class AccountLimit:
    """The limit of one method.

    `path` leads to the account in a request, empty where it names none; `required`: it always names one;
    `filtered`: it need not.
    """

    __slots__ = ("_filtered", "_parse", "_path", "_required", "_streams")

    def __init__(
        self, request: Descriptor, path: tuple[str, ...], *, required: bool, filtered: bool, streams: bool
    ) -> None:
        self._parse = message_factory.GetMessageClass(request).FromString
        self._path = path
        self._required = required
        self._filtered = filtered
        self._streams = streams

    @classmethod
    def of(cls, method: MethodDescriptor) -> Self:
        """What the method's proto says."""
        request = method.input_type
        path = _path(request, streams=method.client_streaming)
        return cls(
            request,
            path,
            required=len(path) == 1 and _is_required(request),
            filtered=method.GetOptions().Extensions[authorization_pb2.filtered_by_account],
            streams=method.client_streaming,
        )

    def applied(self, identity: Identity, request: Any) -> Any:
        """The request to serve, from one or a stream of them, as messages or as bytes.

        Raises `NotFound` for an account that the key is not good for, as for another tenant's,
        `PermissionDenied` SCOPE_MISSING for a call that is not about accounts; of a stream when its first
        frame is read.
        """
        if not self._path and not self._filtered:
            raise _tenant_wide()
        if not self._path:
            return request
        if self._streams:
            return _Frames(request, lambda frame: self._check(identity, frame))
        self._check(identity, request)
        return request

    def _check(self, identity: Identity, request: bytes | Message) -> None:
        account_id = self._account_id(request)
        if account_id:
            if not identity.sees_account(account_id):
                raise NotFound("account", account_id)
        elif not (self._required or self._filtered):  # what is required and missing is refused as such
            raise _tenant_wide()

    def _account_id(self, request: bytes | Message) -> str:
        found: Any = request
        if isinstance(request, bytes):
            try:
                found = self._parse(request)
            except DecodeError:
                raise InvalidArgument("the request cannot be parsed", "INVALID_FIELD") from None
        for name in self._path:
            found = getattr(found, name)
        return str(found)


class _Frames:
    """A stream whose first frame is checked when it is read. A refused one can be read on, as any other."""

    def __init__(self, frames: AsyncIterator[Any], check: Callable[[Any], None]) -> None:
        self._frames = frames
        self._check: Callable[[Any], None] | None = check

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        frame = await anext(self._frames)
        check, self._check = self._check, None
        if check is not None:
            check(frame)
        return frame


def _path(request: Descriptor, *, streams: bool) -> tuple[str, ...]:
    if "account_id" in request.fields_by_name:
        return ("account_id",)
    if streams:
        for field in request.fields:
            inside = field.message_type
            if inside is not None and not field.is_repeated and "account_id" in inside.fields_by_name:
                return field.name, "account_id"
    return ()


def _is_required(request: Descriptor) -> bool:
    options = request.fields_by_name["account_id"].GetOptions()
    return field_behavior_pb2.REQUIRED in options.Extensions[field_behavior_pb2.field_behavior]


def _tenant_wide() -> PermissionDenied:
    return PermissionDenied(
        "the key is limited to accounts, and the call is not about one of them", "SCOPE_MISSING"
    )
