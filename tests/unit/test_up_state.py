"""The secrets of a state directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh_cli.up.backing import Backing
from mesh_cli.up.state import StateDirectory
from mesh_core.errors import FailedPrecondition


def test_secrets_are_made_once(tmp_path: Path) -> None:
    made = StateDirectory(tmp_path).secrets()
    assert StateDirectory(tmp_path).secrets() == made
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", '{"admin_key": "sma', '{"admin_key": "x"}', "[]"])
def test_damaged_secrets_are_named_and_left_as_they_are(tmp_path: Path, content: str) -> None:
    place = tmp_path / "secrets.json"
    place.write_text(content)
    with pytest.raises(FailedPrecondition, match=r"secrets\.json is damaged"):
        StateDirectory(tmp_path).secrets()
    assert place.read_text() == content


def test_secrets_that_are_missing_beside_data_are_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(FailedPrecondition, match=r"secrets\.json is missing"):
        StateDirectory(tmp_path).secrets()
    assert not (tmp_path / "secrets.json").exists()


def test_a_state_directory_is_its_owners_only(tmp_path: Path) -> None:
    """Also one that was made when it was open to all."""
    (tmp_path / "state").mkdir(mode=0o755)
    state = StateDirectory(tmp_path / "state")
    before = os.umask(0o022)
    try:
        state.take()
        (state.path / "new").touch()
        assert {path.stat().st_mode & 0o077 for path in (state.path, *state.path.iterdir())} == {0}
    finally:
        state.release()
        os.umask(before)


def test_a_folder_that_all_users_write_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(FailedPrecondition, match="is a folder that all users write to"):
        StateDirectory(shared).take()
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize(("s3", "before", "kind"), [(True, "objects", "directory"), (False, "s3", "s3")])
async def test_a_state_whose_files_are_stored_otherwise_is_refused(
    s3: bool, before: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MESH_OBJECTS_URL", raising=False)
    (tmp_path / before / "anything").mkdir(parents=True)
    with pytest.raises(FailedPrecondition, match=f"go on with `mesh up --objects {kind}`"):
        await Backing(s3=s3).start(tmp_path)
