"""One job, in its own process: by type and purpose."""

from __future__ import annotations

import pyvips

from mesh_media.processing import kinds
from mesh_media.processing.jobs import Answer, Job, Unfit
from mesh_media.processing.worker import films, pictures, sounds, stickers
from mesh_media.processing.worker.unfit import CannotProcess, broken
from sessionmesh.v1 import media_pb2


def process(job: Job) -> Answer:
    """Does the job."""
    try:
        if job.purpose == media_pb2.MEDIA_PURPOSE_STICKER:
            return stickers.process(job)
        if job.purpose == media_pb2.MEDIA_PURPOSE_VOICE:
            return sounds.process_voice(job)
        if job.purpose == media_pb2.MEDIA_PURPOSE_VIDEO_NOTE:
            return films.process_note(job)
        if job.purpose == media_pb2.MEDIA_PURPOSE_VIDEO:
            return films.process_shown(job)
        if job.purpose == media_pb2.MEDIA_PURPOSE_IMAGE:
            return pictures.process_shown(job)
        if job.mime_type in kinds.PICTURES:
            return pictures.process(job)
        if job.mime_type in kinds.FILMS:
            return films.process(job)
        return sounds.process(job)
    except CannotProcess as problem:
        return Unfit(unprocessed=problem.reason, failure=problem.failure, detail=str(problem))
    except MemoryError:
        return RESOURCE_LIMIT
    except (pyvips.Error, OSError, ValueError, SyntaxError):  # what the decoders say of damaged files
        damaged = broken("file")
        return Unfit(unprocessed=damaged.reason, failure=damaged.failure, detail=str(damaged))


RESOURCE_LIMIT = Unfit(
    unprocessed=media_pb2.UNPROCESSED_REASON_RESOURCE_LIMIT,
    failure=media_pb2.MEDIA_FAILURE_TOO_LARGE,
    detail="takes more time or memory to process than a file may",
)
