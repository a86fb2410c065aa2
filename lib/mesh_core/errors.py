"""The domain's errors, and nothing else is raised: `mesh_core.rpc.server.status` maps them to gRPC status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from grpc import StatusCode

MAX_NAME = 200
"""Characters of a resource's name, a field's path or a value that an error repeats."""
MAX_MESSAGE = 500
"""Characters of an error's message. Errors travel as headers, which have 16 KiB in all: with their details,
and with twelve bytes for the largest characters.
"""


def shown(text: str, most: int = MAX_NAME) -> str:
    """`text`, of which a caller may have written any part, as errors repeat it: no longer than `most`, and
    with what a terminal would obey, or would not show, as `\\u202e`.
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


@dataclass(slots=True, eq=False)
class MeshError(Exception):
    """A failure that the caller is told of.

    `reason` is an `ErrorReason` name without its prefix; `metadata` goes into `google.rpc.ErrorInfo`,
    `retry_after` (seconds) into `RetryInfo`.
    """

    message: str
    reason: str
    metadata: dict[str, str] = field(default_factory=dict, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)

    code: ClassVar[StatusCode] = StatusCode.INTERNAL

    def __post_init__(self) -> None:
        self.message = shown(self.message, MAX_MESSAGE)

    def __str__(self) -> str:
        return self.message


class InvalidArgument(MeshError):
    """INVALID_ARGUMENT that no single field is to blame for."""

    code = StatusCode.INVALID_ARGUMENT


class InvalidField(InvalidArgument):
    """INVALID_ARGUMENT; `field` is a proto field path such as `content.text.body`."""

    def __init__(self, field: str, description: str, reason: str = "INVALID_FIELD") -> None:
        self.field = shown(field)
        self.description = shown(description, MAX_MESSAGE)
        super().__init__(f"{self.field}: {self.description}", reason)


class Unauthenticated(MeshError):
    code = StatusCode.UNAUTHENTICATED


class PermissionDenied(MeshError):
    code = StatusCode.PERMISSION_DENIED


class NotFound(MeshError):
    """NOT_FOUND, also for what belongs to another tenant. `resource` is a kind such as `account`."""

    code = StatusCode.NOT_FOUND

    def __init__(self, resource: str, name: str) -> None:
        name = shown(name)
        super().__init__(f"{resource} {name} does not exist", "RESOURCE_NOT_FOUND")
        self.resource = resource
        self.name = name


@dataclass(slots=True, eq=False)
class AlreadyExists(MeshError):
    """ALREADY_EXISTS; `resource` is the kind of what exists and `name` what it is found by, where known."""

    resource: str = field(default="", kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        MeshError.__post_init__(self)
        self.name = shown(self.name)

    code = StatusCode.ALREADY_EXISTS


class Aborted(MeshError):
    code = StatusCode.ABORTED


class FailedPrecondition(MeshError):
    code = StatusCode.FAILED_PRECONDITION


class ResourceExhausted(MeshError):
    """RESOURCE_EXHAUSTED; `quota` names the exceeded limit in `QuotaFailure`, where there is one."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(
        self, message: str, reason: str, *, quota: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, reason, retry_after=retry_after)
        self.quota = None if quota is None else shown(quota)


class OutOfRange(MeshError):
    code = StatusCode.OUT_OF_RANGE


class Unavailable(MeshError):
    code = StatusCode.UNAVAILABLE


class NotOwner(Unavailable):
    """UNAVAILABLE: this node does not run the account's shard; `owner` is a node id, empty when unknown.

    `shard`, where the error's maker knows it, stays in the process.
    """

    def __init__(
        self, owner: str = "", epoch: int = 0, *, shard: int | None = None, retry_after: float = 0.2
    ) -> None:
        super().__init__(
            f"the account's shard is owned by {owner or 'no node that this one knows of'}",
            "NOT_OWNER",
            metadata={"owner": owner, "epoch": str(epoch)},
            retry_after=retry_after,
        )
        self.owner = owner
        self.epoch = epoch
        self.shard = shard


class GoingAway(Unavailable):
    """UNAVAILABLE: who serves the stream stops doing so. `resume_token` lets the caller go on elsewhere where
    it left off.
    """

    def __init__(
        self,
        resume_token: str = "",
        *,
        message: str = "the server is going away",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            message,
            "GOING_AWAY",
            metadata={"resume_token": resume_token} if resume_token else {},
            retry_after=retry_after,
        )
        self.resume_token = resume_token


class DeadlineExceeded(MeshError):
    code = StatusCode.DEADLINE_EXCEEDED


class Cancelled(MeshError):
    code = StatusCode.CANCELLED


class DataLoss(MeshError):
    code = StatusCode.DATA_LOSS


class Unimplemented(MeshError):
    code = StatusCode.UNIMPLEMENTED


class StartupError(Exception):
    """The process cannot start for a reason outside it, such as a taken port: one line, exit 69."""


class Misconfigured(StartupError):
    """The process cannot start until an operator has changed something: one line that says what, exit 78."""
