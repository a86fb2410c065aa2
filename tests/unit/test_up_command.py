"""What `mesh up` says when it cannot start."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mesh_cli.__main__ import app
from mesh_cli.commands import up as command
from mesh_core.database.migrations import MigrationFailed
from mesh_core.errors import Unavailable


@pytest.mark.parametrize(
    "error",
    [
        MigrationFailed("0005_webhook", 4, 'line 3: column "nonsense" does not exist (SQLSTATE 42703)'),
        Unavailable("etcd did not start", "BACKEND_UNAVAILABLE"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_start_that_fails_ends_with_a_sentence_and_exit_69(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "_run", fail)
    ended = CliRunner().invoke(app, ["up", "--state", str(tmp_path)])
    assert ended.exit_code == 69
    assert ended.stderr == f"mesh up: {error}\n"
