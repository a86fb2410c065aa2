"""The settings of deploy/settings, as systemd and Compose read them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "settings"


def settings_of(accounts: int) -> dict[str, str]:
    """The variables for so many accounts; none for 0."""
    lines = (FOLDER / f"{accounts}-accounts.env").read_text().splitlines() if accounts else []
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
