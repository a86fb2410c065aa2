"""What the mesh's own commands read and listen on, as a deployment starts them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner

from mesh_cli.__main__ import app
from mesh_cli.commands.db import Settings as DatabaseCommandSettings
from mesh_core.settings import BadSettings, read
from mesh_media.settings import MediaServiceSettings
from mesh_router.settings import RouterSettings
from mesh_session_node.settings import SessionNodeSettings
from mesh_simulator.settings import Settings as SimulatorServiceSettings
from mesh_webhook.settings import WebhookServiceSettings
from tests.deploy.deployment import Service

PARTS: Mapping[str, Any] = {
    "router": RouterSettings,
    "session-node": SessionNodeSettings,
    "media": MediaServiceSettings,
    "webhook": WebhookServiceSettings,
    "simulator": SimulatorServiceSettings,
}
"""The settings of each part, by its command."""
ALIASES = frozenset({"MESH_CONFIG", "OTEL_EXPORTER_OTLP_ENDPOINT", "MESH_TRUSTED_PROXIES"})


@cache
def refused_command(words: tuple[str, ...]) -> str:
    """Why `mesh` does not take these words; empty when it does."""
    asked = CliRunner().invoke(app, [*words, "--help"])
    return "" if asked.exit_code == 0 else asked.output


def settings_of(service: Service, config: Path | None) -> Any:
    """The settings that a part reads, with `config` in place of MESH_CONFIG. Raises `BadSettings`."""
    found = _read(
        service.command[0] if service.is_part else "", frozenset(service.environment.items()), config
    )
    if isinstance(found, BadSettings):
        raise found
    return found


@cache  # of hundreds of deployments that differ in one service
def _read(part: str, environment: frozenset[tuple[str, str]], config: Path | None) -> Any:
    """The settings of a part, of `mesh db` for none; or why there are none."""
    kind = PARTS.get(part) if part else DatabaseCommandSettings
    if kind is None:
        return BadSettings(f"{part} is no part of the mesh")
    given = dict(environment)
    unknown = [name for name in given if name not in _variables() | ALIASES]
    if unknown:
        return BadSettings(f"{unknown[0]} is no setting")
    try:
        own = {name: value for name, value in given.items() if name != "MESH_CONFIG"}
        return read(kind, own | ({"MESH_CONFIG": str(config)} if config else {}))
    except BadSettings as error:
        return error


def ports_of(settings: Any) -> set[int]:
    """Where a part listens."""
    found = {port(settings.server.listen), port(settings.server.metrics_listen), settings.server.peer_port}
    if hasattr(settings, "simulator"):
        found.add(port(settings.simulator.listen))
    return found - {0}


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


@cache
def _variables() -> frozenset[str]:
    """Of all parts: they may share a file, or a block, of variables."""
    sections = [section for kind in PARTS.values() for section in msgspec.structs.fields(kind)]
    return frozenset(
        f"MESH_{section.name}_{key}".upper() for section in sections for key in section.type.__struct_fields__
    )
