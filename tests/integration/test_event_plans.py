"""How Postgres reads events: a plan made while a day has none must still do when it has millions."""

from __future__ import annotations

import asyncpg
import pytest

from mesh_core.database.partitions import make_partitions
from mesh_core.events import reader
from mesh_webhook.deliveries import replays
from mesh_webhook.subscriptions import subscription_store

NOBODY = "'00000000-0000-0000-0000-000000000000'"


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (reader.READ, "'3', 0, 1000, NULL, 1000"),
        (reader.BEHIND, "'3', 0"),
        (reader.FIRST_FROM, "'3'"),
        (reader.FIRST_SINCE, "'3', 0, now()"),
        (subscription_store.LAGS, f"{NOBODY}, '{{3}}', '{{0}}', 1000"),
        (replays.SCANNED, "'3', 0, '9', 0, 2000"),
        (replays.BODIES, f"'{{3}}', '{{0}}', ARRAY[{NOBODY}]::uuid[]"),
    ],
    ids=["read", "behind", "first from", "first since", "lags", "replay", "bodies"],
)
async def test_a_plan_of_an_empty_day_uses_the_index(postgres_url: str, query: str, arguments: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        await make_partitions(connection)
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE look AS {query}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE look({arguments})"))
    finally:
        await connection.close()
    assert "Index" in plan
    assert "Seq Scan" not in plan
    assert "->  Sort" not in plan
