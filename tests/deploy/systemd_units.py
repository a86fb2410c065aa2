"""The units of systemd, as a deployment on one machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.deploy.deployment import Deployment, Mount, Need, Service

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
ENVIRONMENT = UNITS / "sessionmesh.env"
INSTANCE = "1"
UNLIMITED = 1 << 40
"""The machine is theirs."""


def read_units(folder: Path = UNITS) -> Deployment:
    """The services of all units; of templates the first instance."""
    common = _variables((folder / ENVIRONMENT.name).read_text().splitlines())
    services = {}
    for place in sorted(folder.glob("*.service")):
        service = _service(place, common)
        services[service.name] = service
    return Deployment(services, inside=frozenset(), orders=True)


def settings_in(text: str) -> dict[str, list[str]]:
    """All values of each setting of a unit, whatever its section."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def _service(place: Path, common: Mapping[str, str]) -> Service:
    found = settings_in(place.read_text().replace("%i", INSTANCE).replace("%l", "host"))
    before, command = _command(found["ExecStart"][0], common)
    own = _variables(word for line in found.get("Environment", ()) for word in shlex.split(line))
    wanted = {unit for line in found.get("After", ()) for unit in line.split()}
    wanted &= {unit for line in found.get("Wants", ()) for unit in line.split()}
    health = _command(found["ExecStartPost"][0], common)[1] if "ExecStartPost" in found else ()
    return Service(
        name=_name(place.name),
        image="sessionmesh",
        command=command,
        environment={
            name: value for name, value in {**common, **own, **before}.items() if name.startswith("MESH_")
        },
        needs={_name(unit): Need.COMPLETED for unit in wanted if unit.endswith(".service")},
        health=health,
        mounts=tuple(
            Mount(source, f"%d/{name}", read_only=True)
            for name, _, source in (line.partition(":") for line in found.get("LoadCredential", ()))
        ),
        stop_seconds=float(found.get("TimeoutStopSec", ["90"])[0]),
        memory_bytes=UNLIMITED,
        user=found.get("User", [""])[0],
        read_only=found.get("ProtectSystem") == ["strict"],
        ends=found["Type"] == ["oneshot"],
    )


def _command(line: str, variables: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that `env` sets, and the words after `mesh`; all words of another program."""
    for name, value in variables.items():
        line = line.replace(f"${{{name}}}", value)
    words = shlex.split(line)
    if words[0] == "/usr/bin/env":
        words = words[1:]
    given = [word for word in words if word.startswith("MESH_") and "=" in word]
    rest = [word.removeprefix("/opt/sessionmesh/bin/") for word in words if word not in given]
    return _variables(given), tuple(rest[1:] if rest[0] == "mesh" else rest)


def _variables(lines: object) -> dict[str, str]:
    pairs = (str(line).partition("=") for line in lines)  # type: ignore[attr-defined] # any iterable of text
    return {name: value for name, equals, value in pairs if equals and not name.startswith("#")}


def _name(unit: str) -> str:
    return unit.removesuffix(".service").removeprefix("sessionmesh-").rstrip("@")
