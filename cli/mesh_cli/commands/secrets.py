"""`mesh secrets`: makes the secrets of a new deployment."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mesh_cli.commands.target import EXIT_FAILED, fail
from mesh_cli.up.state import Secrets

ROLE = DATABASE = "sessionmesh"


def make_secrets(
    folder: Annotated[Path, typer.Argument(help="Where to; each file's reader gets a folder in it.")],
    postgres: Annotated[str, typer.Option(help="Where Postgres is, host:port.")] = "postgres:5432",
    redis: Annotated[str, typer.Option(help="Where Redis is, host:port.")] = "redis:6379",
    shared: Annotated[
        bool, typer.Option("--shared", help="Let any user of a container read what is mounted there.")
    ] = False,
) -> None:
    """Make the secrets of a new deployment: what its parts read, and what its servers do.

    mesh/mesh.toml is the file that MESH_CONFIG names; postgres/password, redis/redis.conf, s3/identities.json
    and grafana/password are for the servers. Where mesh.toml is there already, nothing is made.
    """
    made = folder / "mesh" / "mesh.toml"
    if made.exists():
        Console().print(f"{made} is there: nothing is made.")
        return
    mode = 0o644 if shared else 0o600
    try:
        for place, text in _files(postgres, redis).items():
            _write(folder / place, text, mode)
    except OSError as error:
        fail(f"{error.filename} cannot be written: {error.strerror}", EXIT_FAILED)
    Console().print(f"The secrets are in {folder}: keep a copy elsewhere; without them no session opens.")


def _files(postgres: str, redis: str) -> dict[str, str]:
    """What to write, the mesh's own last: it says that all is there."""
    database, cache, grafana = (secrets.token_urlsafe(32) for _ in range(3))
    access, secret = secrets.token_hex(8), secrets.token_hex(20)
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [
        {
            "name": ROLE,
            "credentials": [{"accessKey": access, "secretKey": secret}],
            "actions": actions,
        }
    ]
    own = Secrets.new()
    return {
        "postgres/password": database,
        "redis/redis.conf": f"requirepass {cache}\n",
        "s3/identities.json": json.dumps({"identities": identities}),
        "grafana/password": grafana,
        "mesh/mesh.toml": "\n".join(
            (
                "# Who can read this file administers the mesh, and can open every account's credentials.",
                "[auth]",
                f'bootstrap_key = "{own.admin_key}"',
                f'mesh_key = "{own.mesh_key}"',
                "[secrets]",
                f'master_key = "{own.master_key}"',
                "[database]",
                f'url = "postgresql://{ROLE}:{database}@{postgres}/{DATABASE}"',
                "[redis]",
                f'url = "redis://:{cache}@{redis}/0"',
                "[objects]",
                f'access_key = "{access}"',
                f'secret_key = "{secret}"',
                "",
            )
        ),
    }


def _write(place: Path, text: str, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    new.replace(place)
