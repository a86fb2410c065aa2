"""Measures sounds, and makes voice notes: Opus with one channel, and its waveform."""

from __future__ import annotations

from array import array
from itertools import pairwise

from mesh_media.processing import kinds
from mesh_media.processing.jobs import Job, Outcome
from mesh_media.processing.worker import ffmpeg
from mesh_media.processing.worker.ffmpeg import Probe
from mesh_media.processing.worker.results import OUTPUT, written_output
from mesh_media.processing.worker.unfit import broken, not_convertible
from sessionmesh.v1 import media_pb2

MOST_VOICE_SECONDS = 3600.0
LEVELS = 64
LOUDEST = 100
_WAVEFORM_RATE = 4000
"""Samples a second that the waveform is taken from."""
_VOICE_RATE = 16_000
"""Samples a second of voice notes, as phones record them: some play none of more."""
_OGG = "audio/ogg"


def process(job: Job) -> Outcome:
    """The sound as it came, with its length. Raises `CannotProcess`."""
    return sound_outcome(job, ffmpeg.probe(job.path, kinds.SOUNDS[job.mime_type]))


def sound_outcome(job: Job, probe: Probe) -> Outcome:
    """What is known of a file that has sound alone, and is kept as it came."""
    if probe.is_cut_off:
        raise broken("sound")
    off = job.level is None
    return Outcome(
        mime_type=_type_of(job, probe),
        unprocessed=media_pb2.UNPROCESSED_REASON_OFF if off else media_pb2.UNPROCESSED_REASON_TYPE,
        duration_ms=round(probe.seconds * 1000),
    )


def _type_of(job: Job, probe: Probe) -> str:
    if not job.foreign and kinds.SOUNDS.get(job.mime_type) == "ogg":
        is_opus = probe.sound_codec == "opus" and probe.film is None
        return job.mime_type if is_opus else "application/ogg"  # which phones do not play
    return _SOUNDS_OF_FILMS.get(job.mime_type, job.mime_type) if probe.sound_codec else job.mime_type


def process_voice(job: Job) -> Outcome:
    """A voice note, which Opus of one channel is already. Raises `CannotProcess`."""
    demuxer = kinds.SOUNDS.get(job.mime_type) or kinds.FILMS.get(job.mime_type)
    probe = ffmpeg.probe(job.path, demuxer) if demuxer else None
    if demuxer is None or probe is None or not probe.sound_codec:
        raise not_convertible("a voice note is made of a sound")
    if probe.seconds > MOST_VOICE_SECONDS:
        raise not_convertible(f"a voice note has at most {MOST_VOICE_SECONDS:.0f} seconds")
    if probe.is_cut_off:
        raise broken("sound")
    if probe.sound_codec == "opus" and probe.is_mono and demuxer == "ogg":
        samples = ffmpeg.convert(job.path, demuxer, MOST_VOICE_SECONDS, *_SAMPLES)
        return _voice(job, samples, media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY)
    rate = _DEFAULT_RATE if job.level is None else job.level.voice_rate
    samples = ffmpeg.convert(
        job.path,
        demuxer,
        MOST_VOICE_SECONDS,
        *("-map", "0:a:0", "-vn", "-c:a", "libopus", "-b:a", str(rate), "-ac", "1", "-ar", str(_VOICE_RATE)),
        *("-application", "voip", "-vbr", "constrained", "-f", "ogg", OUTPUT),
        *_SAMPLES,
    )
    return _voice(job, samples, media_pb2.UNPROCESSED_REASON_UNSPECIFIED)


def waveform(samples: bytes) -> bytes:
    """64 levels of 0 to 100, the loudest is 100, of 16-bit samples of one channel; silence is all 0."""
    levels = array("h", samples[: len(samples) // 2 * 2])
    if not levels:
        return bytes(LEVELS)
    edges = [at * len(levels) // LEVELS for at in range(LEVELS + 1)]
    parts = (levels[start : max(end, start + 1)] for start, end in pairwise(edges))
    peaks = [max(abs(max(part)), abs(min(part))) if part else 0 for part in parts]
    most = max(peaks)
    return bytes(peak * LOUDEST // most if most else 0 for peak in peaks)


def _voice(job: Job, samples: bytes, reason: media_pb2.UnprocessedReason.ValueType) -> Outcome:
    name, size, sha256 = ("", 0, b"") if reason else written_output()
    return Outcome(
        mime_type=job.mime_type if reason else _OGG,
        unprocessed=reason,
        output=name,
        size=size,
        sha256=sha256,
        duration_ms=len(samples) // 2 * 1000 // _WAVEFORM_RATE,
        waveform=waveform(samples),
    )


_SOUNDS_OF_FILMS = {"video/mp4": "audio/mp4", "video/webm": "audio/webm", "video/3gpp": "audio/3gpp"}
"""What a file is that has the container of a film, and no pictures."""
_DEFAULT_RATE = 24_000
_SAMPLES = ("-map", "0:a:0", "-vn", "-ac", "1", "-ar", str(_WAVEFORM_RATE), "-f", "s16le", "pipe:1")
