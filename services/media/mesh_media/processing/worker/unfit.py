"""Why a job ends early."""

from __future__ import annotations

from sessionmesh.v1 import media_pb2


class CannotProcess(Exception):
    """The file can't be processed, for `reason`; `failure`: what callers are told, UNSPECIFIED: the file is
    kept as it came for them, too.
    """

    def __init__(
        self,
        detail: str,
        reason: media_pb2.UnprocessedReason.ValueType,
        failure: media_pb2.MediaFailure.ValueType = media_pb2.MEDIA_FAILURE_UNSPECIFIED,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.failure = failure


def broken(what: str) -> CannotProcess:
    """The file is not what it says."""
    return CannotProcess(
        f"the {what} is broken or cut off",
        media_pb2.UNPROCESSED_REASON_UNREADABLE,
        media_pb2.MEDIA_FAILURE_CORRUPT,
    )


def too_complex(detail: str) -> CannotProcess:
    """More pixels or frames than anybody needs: callers may not store it."""
    return CannotProcess(detail, media_pb2.UNPROCESSED_REASON_TOO_COMPLEX, media_pb2.MEDIA_FAILURE_TOO_LARGE)


def not_convertible(detail: str) -> CannotProcess:
    """It can't be made what its purpose needs."""
    return CannotProcess(detail, media_pb2.UNPROCESSED_REASON_TYPE, media_pb2.MEDIA_FAILURE_NOT_CONVERTIBLE)
