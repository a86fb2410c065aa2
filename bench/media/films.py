"""How much smaller films and voice notes become."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

from bench.measuring.report import Measured
from bench.media import corpus
from sessionmesh.v1 import media_pb2
from tests.support.media_processing import processing

FILM_SECONDS, QUICK_FILM_SECONDS = 12, 2
FILM_RATE = "17M"
"""Bits a second of films of 1080 lines as phones make them."""
_NOISE = "noise=alls=8:allf=t"
_PHONE = ("-vf", f"scale=1920:1080,{_NOISE},fps=30,format=yuv420p", "-c:v", "libx264", "-preset", "veryfast")
_VOICES = {"mp3": ("-c:a", "libmp3lame", "-b:a", "128k"), "mp4": ("-c:a", "aac", "-b:a", "128k")}
_SPOKEN = f"concat=n={len(corpus.SPOKEN)}:v=0:a=1"


async def measure(quick: bool) -> Measured:
    """`video_ratio`: how many times smaller films become, `voice_ratio`: voice notes from MP3 and AAC; the
    medians.
    """
    seconds = QUICK_FILM_SECONDS if quick else FILM_SECONDS
    sources = corpus.FILMS[:1] if quick else corpus.FILMS
    films, voices = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with processing(Path(folder)) as files:
            for source in sources:
                came = await asyncio.to_thread(_as_a_phone_makes_it, source, seconds)
                films.append(len(came) / len((await files.process(came)).data))
            for kind, codec in _VOICES.items():
                came = await asyncio.to_thread(_spoken, *codec, "-f", kind)
                mime_type = "audio/mp4" if kind == "mp4" else "audio/mpeg"
                made = await files.process(came, purpose=media_pb2.MEDIA_PURPOSE_VOICE, mime_type=mime_type)
                voices.append(len(came) / len(made.data))
    return Measured(
        {"video_ratio": statistics.median(films), "voice_ratio": statistics.median(voices)},
        (f"Films of 1080 lines at {FILM_RATE}bit/s, {seconds} s each; speech of 8.5 s at 128 kbit/s.",),
    )


def _as_a_phone_makes_it(source: corpus.Source, seconds: int) -> bytes:
    film = str(corpus.fetched(source))
    made = (*_PHONE, "-b:v", FILM_RATE, "-c:a", "aac", "-b:a", "128k")
    return _ffmpeg("-t", str(seconds), "-i", film, *made, "-f", "mp4")


def _spoken(*codec: str) -> bytes:
    inputs = [part for source in corpus.SPOKEN for part in ("-i", str(corpus.fetched(source)))]
    return _ffmpeg(*inputs, "-filter_complex", _SPOKEN, *codec)


def _ffmpeg(*arguments: str) -> bytes:
    with tempfile.NamedTemporaryFile() as made:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "fatal", "-y", *arguments, made.name]
        subprocess.run(command, check=True)
        return Path(made.name).read_bytes()
