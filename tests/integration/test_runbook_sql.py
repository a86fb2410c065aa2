"""The SQL of the runbooks runs, and only reads."""

from __future__ import annotations

import re

import asyncpg

from tests.support.alert_rules import RUNBOOKS


async def test_every_statement_of_a_runbook_runs(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("SET default_transaction_read_only = on")
    wrong = {}
    ran = 0
    for page in RUNBOOKS.glob("*.md"):
        for block in re.findall(r"^```sql\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            for statement in filter(str.strip, block.split(";")):
                ran += 1
                try:
                    await connection.fetch(statement)
                except asyncpg.PostgresError as error:
                    wrong[page.stem, statement.strip()] = str(error)
    await connection.close()
    assert wrong == {}
    assert ran > 30
