"""Compose files, and the stack file of Swarm, as Compose reads them; that needs no engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deploy.deployment import Deployment, Mount, Need, Service, Update
from tests.support.tools import require_tool

SLOT = "{{.Task.Slot}}"
"""What Swarm puts the number of a replica for."""
DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE, STACK = DEPLOY / "compose" / "compose.yaml", DEPLOY / "swarm" / "stack.yaml"


def read_compose(place: Path, *, profiles: tuple[str, ...] = (), **environment: str) -> Deployment:
    """What a compose file describes, with `environment` in place of its .env."""
    found = rendered(place, *(word for profile in profiles for word in ("--profile", profile)), **environment)
    return Deployment(
        services={name: _service(name, raw) for name, raw in found["services"].items()},
        inside=frozenset(
            name for name, raw in found.get("networks", {}).items() if (raw or {}).get("internal")
        ),
        orders=any(raw.get("depends_on") for raw in found["services"].values()),
    )


def rendered(place: Path, *options: str, **environment: str) -> dict[str, Any]:
    """The file with everything spelled out. AssertionError with Compose's words where it refuses it."""
    done = subprocess.run(
        [
            require_tool("docker-compose"),
            "-f",
            place,
            *options,
            "config",
            "--format",
            "json",
            "--no-path-resolution",
        ],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=place.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # such as of a variable that is not set
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _service(name: str, raw: Mapping[str, Any]) -> Service:
    deploy = raw.get("deploy") or {}
    limits = (deploy.get("resources") or {}).get("limits") or {}
    return Service(
        name=name,
        image=raw["image"],
        command=tuple(_unescaped(word) for word in raw.get("command") or ()),
        environment={
            key: _unescaped(value or "").replace(SLOT, "1")
            for key, value in (raw.get("environment") or {}).items()
        },
        needs={need: Need(how["condition"]) for need, how in (raw.get("depends_on") or {}).items()},
        health=_health(raw.get("healthcheck") or {}),
        mounts=(*map(_mount, raw.get("volumes") or ()), *map(_secret, raw.get("secrets") or ())),
        networks=tuple(raw.get("networks") or ()),
        published={int(port["target"]): int(port.get("published") or 0) for port in raw.get("ports") or ()},
        stop_seconds=_seconds(raw.get("stop_grace_period", "10s")),
        memory_bytes=int(raw.get("mem_limit") or limits.get("memory") or 0),
        user=raw.get("user", ""),
        hostname=raw.get("hostname", "").replace(SLOT, "1"),
        read_only=bool(raw.get("read_only")),
        ends=raw.get("restart") == "no" or deploy.get("mode", "").endswith("-job"),
        replicas=0 if deploy.get("mode") == "global" else int(deploy.get("replicas") or 1),
        update=_update(deploy.get("update_config")),
    )


def _update(raw: Mapping[str, Any] | None) -> Update | None:
    if raw is None:
        return None
    return Update(
        int(raw["parallelism"]), raw["order"] == "stop-first", raw.get("failure_action") == "rollback"
    )


def _health(raw: Mapping[str, Any]) -> tuple[str, ...]:
    if raw.get("disable"):
        return ()
    kind, *words = raw.get("test") or ("NONE",)
    words = [_unescaped(word) for word in words]
    return ("sh", "-c", *words) if kind == "CMD-SHELL" else tuple(words)


def _mount(raw: Mapping[str, Any]) -> Mount:
    is_volume = raw["type"] != "bind"
    return Mount(raw.get("source", ""), raw["target"], bool(raw.get("read_only")), is_volume)


def _secret(raw: Mapping[str, Any]) -> Mount:
    return Mount(raw["source"], raw["target"], read_only=True, is_volume=True)


def _unescaped(text: str) -> str:
    """Compose writes a dollar as two, so that its output is a compose file again."""
    return str(text).replace("$$", "$")


def _seconds(text: str) -> float:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))
