"""Whether what was asked was known already: one metric for every cache, so that hit rates can be compared."""

from __future__ import annotations

from mesh_core.metrics.catalogue import counters
from mesh_core.metrics.series import Counter

CACHES = ("businesses", "groups", "keys", "numbers", "people", "pictures")
_LOOKUPS = counters(
    "mesh_cache_lookups_total",
    "What was looked up in a cache, by whether it was known.",
    answers="What do caches save, and does one fail?",
    cache=CACHES,
    outcome=("hit", "miss"),
)


def hits(cache: str) -> Counter:
    """What the cache knew; one of `CACHES`."""
    return _LOOKUPS.labels(cache, "hit")


def misses(cache: str) -> Counter:
    """What had to be asked for."""
    return _LOOKUPS.labels(cache, "miss")
