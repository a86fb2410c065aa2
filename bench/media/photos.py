"""How much smaller photographs become, and how alike they stay."""

from __future__ import annotations

import statistics

from bench.media import corpus
from bench.media.group import Measured


async def measure(quick: bool) -> Measured:
    """`photo_megabytes`: what phones make of the corpus, on average."""
    sources = corpus.PHOTOGRAPHS[:2] if quick else corpus.PHOTOGRAPHS
    sizes = [len(corpus.as_phones_make_it(corpus.photograph(source))) for source in sources]
    return Measured({"photo_megabytes": statistics.mean(sizes) / 1e6})
