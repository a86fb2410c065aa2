"""Makes films smaller: H.264 and AAC in an MP4 that begins with its index, with a picture of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyvips
from msgspec.structs import replace

from mesh_media.processing import kinds
from mesh_media.processing.jobs import Job, Outcome, Small
from mesh_media.processing.levels import FOR_A_PURPOSE, Level
from mesh_media.processing.worker import ffmpeg
from mesh_media.processing.worker.ffmpeg import Film, Probe
from mesh_media.processing.worker.picture_files import read_header
from mesh_media.processing.worker.results import OUTPUT, small_pictures, written_output
from mesh_media.processing.worker.sandbox import make_nothing_larger
from mesh_media.processing.worker.sounds import sound_outcome
from mesh_media.processing.worker.unfit import CannotProcess, broken, not_convertible
from sessionmesh.v1 import media_pb2

Unprocessed: TypeAlias = media_pb2.UnprocessedReason.ValueType

MOST_SECONDS = 600.0
MOST_FRAMES_PER_SECOND = 120.0
NOTE_SIDE, MOST_NOTE_SECONDS = 480, 60.0
_BITS_PER_PIXEL = 0.06
"""A film with no more, in each frame, is compressed already."""
_HEAD_BYTES = 2 * 1024 * 1024
_FRAMES_PER_SECOND = "30"
_MP4 = "video/mp4"
_DEMUXERS = {**kinds.FILMS, **kinds.ANIMATIONS}
_PLACES = re.compile(rb"\xa9xyz|loci|com\.apple\.quicktime\.location")
_POSTER = "scale='min(640,iw)':-2,format=yuvj420p"


def process(job: Job) -> Outcome:
    """The smaller of the film as it came and the film recompressed; of a caller's that phones do not play
    always the latter. Raises `CannotProcess`.
    """
    probe = ffmpeg.probe(job.path, kinds.FILMS[job.mime_type])
    if probe.film is None:
        return sound_outcome(job, probe)
    level = job.level
    reason = _reason_to_keep(job, probe, probe.film)
    if reason or level is None:
        return _kept(job, probe, probe.film, reason)
    try:
        return _smaller(job, probe, probe.film, level)
    except ffmpeg.Stopped as stopped:
        if job.foreign or _plays(job, probe, probe.film):
            return _kept(job, probe, probe.film, stopped.reason)
        return _kept(job, probe, probe.film, media_pb2.UNPROCESSED_REASON_RESOURCE_LIMIT)


def process_shown(job: Job) -> Outcome:
    """A film that phones play, whatever `process` would do; of an animation, too. Raises `CannotProcess`."""
    if job.mime_type in kinds.ANIMATIONS and not read_header(job).animated:
        raise not_convertible("a picture that does not move is no film")
    demuxer = _DEMUXERS.get(job.mime_type)
    probe = ffmpeg.probe(job.path, demuxer) if demuxer else None
    if probe is None or probe.film is None:
        raise not_convertible("a film is made of a film or a GIF")
    if _reason_to_keep(job, probe, probe.film) and _plays(job, probe, probe.film):
        return _kept(job, probe, probe.film, media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY)
    if _is_too_complex(probe, probe.film):
        raise not_convertible(f"a film that is made has at most {MOST_SECONDS:.0f} s, and fewer pixels")
    try:
        return _smaller(job, probe, probe.film, job.level or FOR_A_PURPOSE)
    except ffmpeg.Stopped:
        raise not_convertible("the film takes too much time or room to be made") from None


def process_note(job: Job) -> Outcome:
    """A square film. Raises `CannotProcess`."""
    demuxer = kinds.FILMS.get(job.mime_type)
    probe = ffmpeg.probe(job.path, demuxer) if demuxer else None
    if probe is None or probe.film is None:
        raise not_convertible("a video note is made of a film")
    if probe.seconds > MOST_NOTE_SECONDS + 0.5:
        raise not_convertible(f"a video note has at most {MOST_NOTE_SECONDS:.0f} seconds")
    film = probe.film
    side = min(film.width, film.height)
    level = job.level or _NOTE
    if film.width == film.height <= NOTE_SIDE and _is_small(job, probe, film, level):
        return _kept(job, probe, film, media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY)
    shown = min(NOTE_SIDE, side // 2 * 2)
    made = _encoded(job, probe, level, f"crop={side}:{side},scale={shown}:{shown}")
    return _outcome(_Size(shown, shown), made)


@dataclass(frozen=True, slots=True)
class _Size:
    width: int
    height: int


def _reason_to_keep(job: Job, probe: Probe, film: Film) -> Unprocessed:
    if job.level is None:
        return media_pb2.UNPROCESSED_REASON_OFF
    if _is_too_complex(probe, film):
        return media_pb2.UNPROCESSED_REASON_TOO_COMPLEX
    small = _is_small(job, probe, film, job.level) and _plays(job, probe, film)
    if small and _begins_with_index(job.path) and (job.foreign or not _says_where(job.path)):
        return media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY
    return media_pb2.UNPROCESSED_REASON_UNSPECIFIED


def _is_too_complex(probe: Probe, film: Film) -> bool:
    if film.width * film.height > ffmpeg.MOST_FILM_PIXELS:
        return True
    return probe.seconds > MOST_SECONDS or film.frames_per_second > MOST_FRAMES_PER_SECOND


def _plays(job: Job, probe: Probe, film: Film) -> bool:
    """Whether phones play it as it is."""
    return job.mime_type == _MP4 and _is_h264(film) and probe.sound_codec in ("", "aac")


def _is_h264(film: Film) -> bool:
    return film.codec == "h264" and film.pixel_format in ("yuv420p", "yuvj420p")


def _is_small(job: Job, probe: Probe, film: Film, level: Level) -> bool:
    fits = _fitting(film, level.film_short_side)
    if not _is_h264(film):
        return False
    if (film.width // 2, film.height // 2) != (fits.width // 2, fits.height // 2):
        return False
    if _encoded_with_crf(job.path) >= level.film_crf:
        return True
    pixels = film.width * film.height * max(film.frames_per_second, 1.0)
    return job.size * 8 <= probe.seconds * (pixels * _BITS_PER_PIXEL + 2 * level.sound_rate)


def _fitting(film: Film, short_side: int) -> _Size:
    """The size in even numbers, that the encoder needs."""
    short, long = sorted((film.width, film.height))
    scale = min(1.0, short_side / short, short_side * 16 / 9 / long)
    return _Size(max(2, round(film.width * scale / 2) * 2), max(2, round(film.height * scale / 2) * 2))


def _encoded_with_crf(path: str) -> float:
    """The rate factor that x264 notes in a film that it made, as it made ours; 0 where there is none."""
    with Path(path).open("rb") as file:
        noted = re.search(rb"x264 - core .{,1000}? crf=([\d.]{1,5}) ", file.read(_HEAD_BYTES), re.DOTALL)
    return float(noted[1]) if noted else 0.0


def _begins_with_index(path: str) -> bool:
    """Whether a player can begin before it has all of the file: box `moov` before `mdat`."""
    with Path(path).open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, name = int.from_bytes(head[:4]), head[4:]
            if name in (b"moov", b"mdat"):
                return name == b"moov"
            if size == 1:
                size = int.from_bytes(file.read(8)) - 8
            if size < 8:
                return False
            file.seek(size - 8, 1)
    return False


def _says_where(path: str) -> bool:
    """Whether it has the place where it was made."""
    with Path(path).open("rb") as file:
        return _PLACES.search(file.read(_HEAD_BYTES)) is not None


def _copied(job: Job, probe: Probe) -> ffmpeg.Probe:
    sound = ("-c:a", "copy") if probe.sound_codec == "aac" else ("-c:a", "aac", "-b:a", "64k", "-ac", "2")
    return _made(job, probe, "-c:v", "copy", *sound)


def _encoded(job: Job, probe: Probe, level: Level, filters: str) -> ffmpeg.Probe:
    return _made(
        job,
        probe,
        *("-vf", f"{filters},format=yuv420p", "-fpsmax", _FRAMES_PER_SECOND),
        *("-c:v", "libx264", "-preset", "faster", "-crf", str(level.film_crf), "-threads", "1"),
        *(("-bf", "0") if job.mime_type in kinds.ANIMATIONS else ()),  # whose pictures may stay for seconds
        *("-c:a", "aac", "-b:a", str(level.sound_rate), "-ac", "2"),
    )


def _made(job: Job, probe: Probe, *codecs: str) -> ffmpeg.Probe:
    ffmpeg.convert(
        job.path,
        _DEMUXERS[job.mime_type],
        MOST_SECONDS,
        *("-map", "0:V:0", "-map", "0:a:0?", "-sn", "-dn"),
        *codecs,
        *("-movflags", "+faststart", "-f", "mp4", OUTPUT),
    )
    made = ffmpeg.probe(OUTPUT, "mov")
    announced = max(probe.seconds, min(probe.announced_seconds, MOST_SECONDS))
    if Probe(made.seconds, announced, None, "").is_cut_off:
        raise broken("film")
    return made


def _smaller(job: Job, probe: Probe, film: Film, level: Level) -> Outcome:
    plays = _plays(job, probe, film)
    if plays:
        make_nothing_larger(job)
    repacked = _is_small(job, probe, film, level)
    if repacked:
        made = _copied(job, probe)
    else:
        size = _fitting(film, level.film_short_side)
        made = _encoded(job, probe, level, f"scale={size.width}:{size.height}")
    larger = Path(OUTPUT).stat().st_size >= job.size  # repacked by little, for an index where players want it
    if made.film is None or (larger and not repacked and (plays or job.foreign)):
        return _kept(job, probe, film, media_pb2.UNPROCESSED_REASON_NOT_SMALLER)
    return _outcome(_Size(made.film.width, made.film.height), made)


def _outcome(shown: _Size, made: Probe) -> Outcome:
    name, size, sha256 = written_output()
    thumbnail, preview = _small_pictures(name, "mov", made)
    return Outcome(
        mime_type=_MP4,
        output=name,
        size=size,
        sha256=sha256,
        width=shown.width,
        height=shown.height,
        duration_ms=round(made.seconds * 1000),
        thumbnail=thumbnail,
        preview=preview,
    )


def _kept(job: Job, probe: Probe, film: Film, reason: Unprocessed) -> Outcome:
    if probe.is_cut_off:
        raise broken("film")
    thumbnail, preview = _small_pictures(job.path, _DEMUXERS[job.mime_type], probe)
    return Outcome(
        mime_type=job.mime_type,
        unprocessed=reason,
        width=film.width,
        height=film.height,
        duration_ms=round(probe.seconds * 1000),
        thumbnail=thumbnail,
        preview=preview,
    )


def _small_pictures(path: str, demuxer: str, probe: Probe) -> tuple[Small | None, bytes]:
    """Of the film's first second; none where that cannot be decoded."""
    at = min(1.0, probe.seconds / 3)
    try:
        data = ffmpeg.convert(
            path,
            demuxer,
            MOST_SECONDS,
            *("-ss", f"{at:.3f}", "-map", "0:V:0", "-frames:v", "1", "-vf", _POSTER),
            *("-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe", "pipe:1"),
        )
    except (CannotProcess, ffmpeg.Stopped):
        return None, b""
    return small_pictures(pyvips.Image.new_from_buffer(data, "")) if data else (None, b"")


_NOTE = replace(FOR_A_PURPOSE, film_short_side=NOTE_SIDE)
