"""ffmpeg on files of strangers: the demuxer is forced, so that no script or playlist is followed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from mesh_media.processing.worker.sandbox import die_with_parent
from mesh_media.processing.worker.unfit import broken
from sessionmesh.v1 import media_pb2

MOST_FILM_PIXELS = 4096 * 2304
_ENDED_BY_SIGNAL = 255
"""What ffmpeg ends with after a signal that it catches, as the one that says that its time is over."""


@dataclass(frozen=True, slots=True)
class Film:
    """The pictures of a film; `width` and `height` are upright."""

    codec: str
    pixel_format: str
    width: int
    height: int
    frames_per_second: float


@dataclass(frozen=True, slots=True)
class Probe:
    """What ffmpeg says of a file, after having read all of it; `seconds` are those that are there."""

    seconds: float
    announced_seconds: float
    film: Film | None
    sound_codec: str
    is_mono: bool = False

    @property
    def is_cut_off(self) -> bool:
        """Whether a part of what was announced is missing."""
        return self.seconds < self.announced_seconds * 0.95 - 0.3


class Stopped(Exception):
    """ffmpeg had more to write or to do than it may; `reason` is why the file is kept."""

    def __init__(self, reason: media_pb2.UnprocessedReason.ValueType) -> None:
        super().__init__()
        self.reason = reason


def probe(path: str, demuxer: str) -> Probe:
    """Reads the file without decoding it. Raises `CannotProcess` when that is not possible."""
    if demuxer in ("wav", "avi") and _riff_is_cut_off(path):
        raise broken("file")
    said = _run(
        [*_input(path, demuxer), *_FIRST_STREAMS, "-c", "copy", "-f", "null", "-progress", "pipe:1", "-"],
        level="info",
    )
    if said.returncode:
        raise broken("file")
    header = said.stderr.decode(errors="replace").partition("\nOutput #0")[0]
    sound = _SOUND.search(header)
    announced = _DURATION.search(header)
    times = re.findall(rb"^out_time_us=(\d+)$", said.stdout, re.MULTILINE)
    return Probe(
        int(times[-1]) / 1e6 if times else 0.0,
        _seconds(announced) if announced else 0.0,
        _film(header),
        sound[1] if sound else "",
        is_mono=bool(sound and ", mono," in sound[0]),
    )


def convert(path: str, demuxer: str, seconds: float, *arguments: str) -> bytes:
    """Runs ffmpeg on so many seconds of a file; returns what it writes to its standard output.

    Raises `CannotProcess` when that is not possible, and `Stopped`.
    """
    limited = ["-t", f"{seconds:.3f}", *_input(path, demuxer)]
    done = _run([*limited, *_NO_METADATA, *arguments], level="error")
    if done.returncode == -signal.SIGXFSZ:
        raise Stopped(media_pb2.UNPROCESSED_REASON_NOT_SMALLER)
    if done.returncode < 0 or done.returncode == _ENDED_BY_SIGNAL:
        raise Stopped(media_pb2.UNPROCESSED_REASON_RESOURCE_LIMIT)
    if done.returncode:
        raise broken("file")
    return done.stdout


def _input(path: str, demuxer: str) -> list[str]:
    return ["-protocol_whitelist", "file", "-f", demuxer, "-i", f"file:{path}"]


def _run(arguments: list[str], *, level: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - no shell, and our own arguments but for the path of a temporary file
        [
            _program(),
            *("-hide_banner", "-nostdin", "-nostats", "-loglevel", level, "-y"),
            *("-threads", "1", "-filter_threads", "1", "-max_pixels", str(MOST_FILM_PIXELS)),
            *arguments,
        ],
        capture_output=True,
        check=False,
        preexec_fn=die_with_parent,
    )


def _riff_is_cut_off(path: str) -> bool:
    """Whether the file has fewer bytes than it says; those that say 0 or -1 were written as they came."""
    with Path(path).open("rb") as file:
        announced = int.from_bytes(file.read(8)[4:], "little")
        return announced < 0xFFFFFFF0 and announced + 8 > file.seek(0, os.SEEK_END)


@cache
def _program() -> str:
    program: str = imageio_ffmpeg.get_ffmpeg_exe()
    return program


def _film(header: str) -> Film | None:
    for stream in _STREAM.split(header)[1:]:
        video = _VIDEO.match(stream)
        if video is None or "(attached pic)" in stream.partition("\n")[0]:
            continue
        width, height = int(video["width"]), int(video["height"])
        rotation = _ROTATION.search(stream)
        if rotation and round(float(rotation[1]) / 90) % 2:
            width, height = height, width
        rate = _RATE.search(stream)
        return Film(video["codec"], video["format"], width, height, float(rate[1]) if rate else 0.0)
    return None


def _seconds(match: re.Match[str]) -> float:
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


_FIRST_STREAMS = ("-map", "0:V:0?", "-map", "0:a:0?")
_NO_METADATA = ("-map_metadata", "-1", "-map_chapters", "-1")
# Each at the beginning of a line: what files say of themselves is indented further.
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):([\d.]+)", re.MULTILINE)
_STREAM = re.compile(r"^  Stream #0:\d+\S*: ", re.MULTILINE)
_SOUND = re.compile(r"^  Stream #0:\d+\S*: Audio: (\w+).*$", re.MULTILINE)
_VIDEO = re.compile(
    r"Video: (?P<codec>\w+)[^\n]*?, (?P<format>\w+)(?:\([^)\n]*\))?, (?P<width>\d+)x(?P<height>\d+)"
)
_RATE = re.compile(r", ([\d.]+) fps")
_ROTATION = re.compile(r"^      .*rotation of (-?[\d.]+) degrees", re.MULTILINE)
