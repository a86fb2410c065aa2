"""How much smaller photographs become, how alike they stay, and what becomes of what was processed before."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

import pyvips
from ssimulacra2 import compute_ssimulacra2

from bench.measuring.report import Measured
from bench.media import corpus
from tests.support.media_processing import Processing, processing

SIDE, _MIDDLE = 1600, 400


async def measure(quick: bool) -> Measured:
    """`photo_ratio`: how many times smaller, the median of the photographs; `photo_ssimulacra2`: how alike
    the result and the picture without noise are at that size, the median; `reprocessed_larger`: results that
    are larger after they were processed once more.
    """
    sources = corpus.PHOTOGRAPHS[:1] if quick else corpus.PHOTOGRAPHS
    scored = _MIDDLE if quick else SIDE
    ratios, scores, larger = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        async with processing(Path(folder)) as files:
            for source in sources:
                clean = await asyncio.to_thread(corpus.photograph, source)
                came = await asyncio.to_thread(corpus.as_phones_make_it, clean)
                made = await files.process(came)
                ratios.append(len(came) / len(made.data))
                scores.append(await asyncio.to_thread(_alike, clean, made.data, scored, Path(folder)))
                larger += await _is_larger_again(files, made.data)
    return Measured(
        {
            "photo_ratio": statistics.median(ratios),
            "photo_ssimulacra2": statistics.median(scores),
            "reprocessed_larger": larger,
        },
        (
            f"Of {len(sources)} photographs the least ratio was {min(ratios):.1f}, the least score "
            f"{min(scores):.1f}.",
        ),
    )


async def _is_larger_again(files: Processing, data: bytes) -> bool:
    again = await files.process(data)
    return len(again.data) > len(data)


def _alike(clean: pyvips.Image, made: bytes, scored: int, folder: Path) -> float:
    """SSIMULACRA 2 of the result and the picture that came, without noise, made as small: of so many pixels
    in the middle.
    """
    reference = clean.thumbnail_image(SIDE, height=SIDE)
    result = pyvips.Image.new_from_buffer(made, "")
    for image, name in ((reference, "reference.png"), (result, "result.png")):
        width, height = min(scored, image.width), min(scored, image.height)
        middle = image.crop((image.width - width) // 2, (image.height - height) // 2, width, height)
        middle.pngsave(str(folder / name), compression=0)
    return float(compute_ssimulacra2(str(folder / "reference.png"), str(folder / "result.png")))
