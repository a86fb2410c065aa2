"""Pictures and films as phones make them, from files of Debian's packages that are fetched once and checked.

They are kept outside the checkout, where the programs for tests are, too. Photographs are enlarged to 12
megapixels, and get the noise of a sensor before they are compressed; the picture without noise is what
results are compared with.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyvips

from bench.mesh.operator import NotMeasured

PHOTO_WIDTH, PHOTO_HEIGHT = 4000, 3000
NOISE_SIGMA = 4.0
PHOTO_QUALITY = 95
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sessionmesh" / "bench-media"
_ALSA = "usr/share/sounds/alsa"
_GNOME, _OPENCV = "usr/share/backgrounds/gnome", "usr/share/doc/opencv-doc/examples/data"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a Debian package, and its sha256 in hexadecimal."""

    package: str
    path: str
    sha256: str


PHOTOGRAPHS = (
    Source(
        "gnome-backgrounds",
        f"{_GNOME}/adwaita-d.webp",
        "c4b3fed40deae59f4d296b8f12b0ece7c178c4cfabe9442a260126af5a67819c",
    ),
    Source(
        "gnome-backgrounds",
        f"{_GNOME}/adwaita-l.webp",
        "e2a2f6b559e574b76f302e2e854321ee0acbbd8e1891fce95269781e248aa045",
    ),
    Source(
        "gnome-backgrounds",
        f"{_GNOME}/wood-l.webp",
        "37c8e62479bc5282a0e890d0bcbe1762223cc541b79730dcfaf38b0a57d2e80e",
    ),
    Source(
        "opencv-doc",
        f"{_OPENCV}/aloeL.jpg",
        "cce5736808efe80d9f04b118dbb978c344d4345672b332718c3e039a3eeb8eee",
    ),
    Source(
        "opencv-doc",
        f"{_OPENCV}/fruits.jpg",
        "9c031d80a1c52da5eca790db896baffec6a7e52bf786cdb7bbfca5c7f880e6a1",
    ),
    Source(
        "opencv-doc",
        f"{_OPENCV}/baboon.jpg",
        "1a1dd18d78eec44420af3b0b7f08ee3d41c982916cae3ce203d7ff35d754cc0f",
    ),
    Source(
        "opencv-doc",
        f"{_OPENCV}/starry_night.jpg",
        "accda7a19a90f22a4a922fdc8c230167d7abf5f80882171e2cee125c5f12481d",
    ),
    Source(
        "opencv-doc",
        f"{_OPENCV}/leuvenA.jpg",
        "b2977cdbd9fb3f94dadd6f76cf586d145676deb8a22b5f0f42149d21c058c09f",
    ),
)
FILMS = (
    Source(
        "opencv-doc",
        f"{_OPENCV}/vtest.avi",
        "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
    ),
    Source(
        "opencv-doc",
        f"{_OPENCV}/Megamind.avi",
        "0057387cb7e75c8fd1663b62cfdc51fa53f527795d0fe3c1fea2fd159d3130b5",
    ),
)


SPOKEN = (
    Source(
        "alsa-utils",
        f"{_ALSA}/Front_Center.wav",
        "0d61518bcd3f13b0c709a5298e939caf698b80d31d71d50475365ee0e5536cc9",
    ),
    Source(
        "alsa-utils",
        f"{_ALSA}/Front_Left.wav",
        "9f97e8458785da2f0aa0ec60bf9cc81520cbf80a4683e83eca9cb5f2958e9fef",
    ),
    Source(
        "alsa-utils",
        f"{_ALSA}/Front_Right.wav",
        "1fdea4d7003f1f7d3e48d3521aaab0a112c4ac570b02ddf1813abacac3070f6f",
    ),
    Source(
        "alsa-utils",
        f"{_ALSA}/Rear_Center.wav",
        "9343207e3298813fdc4d26b7948e15a38533c37a9f232c3eff809b565398b330",
    ),
    Source(
        "alsa-utils",
        f"{_ALSA}/Rear_Left.wav",
        "1679e0557701864d55b742a0abd3fe5f50d95b1bfcb55ffad4b597dcc7e3c7b8",
    ),
    Source(
        "alsa-utils",
        f"{_ALSA}/Side_Left.wav",
        "03dc7c641d7825417d2a261831715e945e95d87343fb037db910e7ce4f87a2a1",
    ),
)


def fetched(source: Source) -> Path:
    """The file, downloaded with apt when it is not here yet. Raises `NotMeasured` when it is another one."""
    path = _CACHE / source.package / source.path
    if not path.exists():
        _download(source.package)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "nothing"
    if found != source.sha256:
        raise NotMeasured(f"{source.path} of the package {source.package} is not the one that was measured")
    return path


def photograph(source: Source) -> pyvips.Image:
    """12 megapixels of it, without noise."""
    picture = pyvips.Image.new_from_file(str(fetched(source))).colourspace("srgb")
    picture = picture.flatten() if picture.hasalpha() else picture
    scale = max(PHOTO_WIDTH / picture.width, PHOTO_HEIGHT / picture.height)
    picture = picture.resize(scale, kernel="cubic")
    left, top = (picture.width - PHOTO_WIDTH) // 2, (picture.height - PHOTO_HEIGHT) // 2
    return picture.crop(left, top, PHOTO_WIDTH, PHOTO_HEIGHT).copy_memory()


def as_phones_make_it(picture: pyvips.Image) -> bytes:
    """A JPEG of it with a sensor's noise."""
    noise = [
        pyvips.Image.gaussnoise(picture.width, picture.height, sigma=NOISE_SIGMA, mean=0.0, seed=band)
        for band in range(picture.bands)
    ]
    noisy = (picture + noise[0].bandjoin(noise[1:])).cast("uchar")
    data: bytes = noisy.copy(interpretation="srgb").jpegsave_buffer(Q=PHOTO_QUALITY)
    return data


def _download(package: str) -> None:
    folder = _CACHE / package
    with tempfile.TemporaryDirectory() as work:
        try:
            subprocess.run(["apt-get", "download", package], cwd=work, check=True, capture_output=True)
            archive = next(Path(work).glob("*.deb"))
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True, capture_output=True)
        except (OSError, StopIteration, subprocess.CalledProcessError) as problem:
            raise NotMeasured(f"Debian's package {package} cannot be fetched: {problem}") from None
