"""The units of systemd: it takes them, they are shut in, all fits together, no change goes unnoticed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from mesh_core.process.exposure import refuse_exposed
from mesh_core.process.start_checks import refuse_stranger
from mesh_core.settings import BadSettings
from tests.deploy import parts
from tests.deploy.deployment import Deployment, Need, Service
from tests.deploy.rules import BEYOND_DRAIN_SECONDS
from tests.deploy.systemd_units import UNITS, read_units, settings_in
from tests.support.mesh_process import run_mesh_here
from tests.support.tools import require_on_path

HIGHEST_EXPOSURE = 2.0
"""Of `systemd-analyze security`, from 0 (shut in) to 10. What is left is the network, which parts are for."""
SERVICES = sorted(UNITS.glob("*.service"))
PART_SETTINGS = {
    "Restart": ["always"],
    "RestartPreventExitStatus": ["64 78"],
    "KillSignal": ["SIGTERM"],
    # To the main process only: a watchdog passes the signal on, and a second one would stop its node.
    "KillMode": ["mixed"],
    "WantedBy": ["sessionmesh.target"],
    "PartOf": ["sessionmesh.target"],
    "LimitNOFILE": ["65536"],
    "EnvironmentFile": ["/etc/sessionmesh/sessionmesh.env"],
}
FOLLOWER = "sessionmesh-backup-follow.service"
FOLLOWER_SETTINGS = PART_SETTINGS | {
    # It is refused what passes, too: a database that is away, a receiver whose end is not noticed yet.
    "RestartPreventExitStatus": ["64"],
    "EnvironmentFile": ["/etc/sessionmesh/sessionmesh.env", "/etc/sessionmesh/backup.env"],
}
STORING_SECONDS = 30.0
"""What a follower gets to store what it received last."""

NEEDED_CALLS = {"sessionmesh-media.service": {"setpriority", "unshare", "prctl", "prlimit64"}}
"""What a part asks of the kernel that a service seldom does: media, before it opens a stranger's file."""
ALL_SETTINGS: Mapping[str, Callable[[list[str]], bool]] = {
    "User": lambda values: values == ["sessionmesh"],
    "After": lambda values: "network-online.target" in " ".join(values).split(),
}
PAGE = UNITS.parents[1] / "docs" / "deploy.md"
PORTS = {
    words[0].partition(" (")[0]: {int(word) for word in words[1:]}
    for words in (re.split(r" *\| *", line.strip("| ")) for line in PAGE.read_text().splitlines())
    if len(words) == 4 and words[1].isdigit()
}
"""What the page says that each part listens on."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MESH_CONFIG names, with servers on the same machine."""
    folder = tmp_path_factory.mktemp("systemd")
    here = ("--postgres", "127.0.0.1:5432", "--redis", "127.0.0.1:6379")
    assert run_mesh_here("secrets", str(folder), *here).exit_code == 0
    return folder / "mesh" / "mesh.toml"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with programs that exist."""
    for place in UNITS.iterdir():
        text = place.read_text().replace("/opt/sessionmesh/bin/mesh-health", "/bin/true")
        (tmp_path / place.name).write_text(text.replace("/opt/sessionmesh/bin/mesh", "/bin/true"))
    return tmp_path


@pytest.mark.parametrize("name", [place.name for place in SERVICES])
def test_systemd_takes_a_unit(units: Path, name: str) -> None:
    assert _analyze("verify", "--recursive-errors=yes", str(units / name.replace("@", "@1"))) == ""


@pytest.mark.parametrize("name", [place.name for place in SERVICES])
def test_a_unit_is_shut_in(units: Path, name: str) -> None:
    printed = _analyze("security", "--offline=yes", "--no-pager", str(units / name))
    [level] = re.findall(r"exposure level for \S+: ([\d.]+)", printed)
    assert float(level) <= HIGHEST_EXPOSURE, printed


@pytest.mark.parametrize("name", NEEDED_CALLS)
def test_a_unit_lets_its_part_make_the_calls_that_it_makes(name: str) -> None:
    permitted = set(_calls("@default"))
    for line in settings_in((UNITS / name).read_text())["SystemCallFilter"]:
        named = {call for word in line.removeprefix("~").split() for call in _calls(word)}
        permitted = permitted - named if line.startswith("~") else permitted | named
    assert NEEDED_CALLS[name] - permitted == set()


def test_all_of_it_fits_together(config: Path) -> None:
    assert findings(UNITS, config) == []


def test_no_change_goes_unnoticed(
    tmp_path: Path, config: Path, record_property: Callable[[str, object], None]
) -> None:
    noticed: dict[str, bool] = {}
    for what, place, text in _changes():
        folder = tmp_path / f"change-{len(noticed)}"
        shutil.copytree(UNITS, folder)
        (folder / place.name).write_text(text)
        noticed[what] = bool(findings(folder, config))
    record_property("deploy_mutations", len(noticed))
    record_property("deploy_mutations_noticed", sum(noticed.values()))
    assert len(noticed) > 50
    assert [what for what, seen in noticed.items() if not seen] == []


def findings(folder: Path, config: Path) -> list[str]:
    """One sentence for each thing that is wrong with the units in a folder."""
    try:
        read = read_units(folder)
    except (KeyError, ValueError) as error:
        return [f"cannot be read: {error!r}"]
    found = [f"{name}: {what}" for name, each in read.services.items() for what in _of(each, read, config)]
    for place in folder.glob("*.service"):
        settings = settings_in(place.read_text())
        found += [
            f"{place.name}: {key}"
            for key, wanted in ALL_SETTINGS.items()
            if not wanted(settings.get(key, []))
        ]
        if settings["Type"] != ["oneshot"]:
            expected = FOLLOWER_SETTINGS if place.name == FOLLOWER else PART_SETTINGS
            found += [
                f"{place.name}: {key}" for key, wanted in expected.items() if settings.get(key) != wanted
            ]
    return found


def _of(service: Service, read: Deployment, config: Path) -> Iterator[str]:
    if refused := parts.refused_command(service.command):
        yield refused
        return
    if not any(mount.target == service.environment.get("MESH_CONFIG") for mount in service.mounts):
        yield "reads no secrets"
    try:
        if service.ends:
            return
        if service.name == "backup-follow":
            yield from _of_follower(service)
            return
        settings = parts.settings_of(service, config)
        refuse_stranger(settings)
        refuse_exposed(settings)
    except (BadSettings, KeyError) as error:
        yield str(error)
        return
    yield from _of_part(service, read, settings.server.listen, settings.server.drain_seconds)
    if parts.ports_of(settings) != PORTS[service.name]:
        yield f"does not listen where the page says, on {sorted(PORTS[service.name])}"


def _of_follower(service: Service) -> Iterator[str]:
    if service.command != ("backup", "follow"):
        yield f"runs {service.command}"
    if service.stop_seconds < STORING_SECONDS:
        yield f"is killed {service.stop_seconds:g} s after it was to end"


def _of_part(service: Service, read: Deployment, listen: str, drain_seconds: float) -> Iterator[str]:
    if service.health != ("mesh-health", "--wait", "90", listen):
        yield f"starts when {service.health} succeeds"
    if service.needs.get("migrate") is not Need.COMPLETED or "migrate" not in read.services:
        yield "does not wait until the schema is migrated"
    if service.stop_seconds < drain_seconds + BEYOND_DRAIN_SECONDS:
        yield f"is killed {service.stop_seconds:g} s after its drain began"


def _changes() -> Iterator[tuple[str, Path, str]]:
    """Each change in words, its file, and the file with it."""
    for place in [*SERVICES, UNITS / "sessionmesh.env"]:
        text = place.read_text()
        for number, line in enumerate(text.splitlines()):
            for changed in _changed(line):
                lines = text.splitlines()
                lines[number] = changed
                yield f"{place.name}: {changed}", place, "\n".join(lines) + "\n"


def _changed(line: str) -> Iterator[str]:
    """A line with another command, port or variable, or without what it says of order and end."""
    if line.startswith(("ExecStart=", "ExecStartPost=")):
        yield re.sub(r"(/bin/mesh(?:-health)?)\b", r"\1x", line)
        yield from (re.sub(r"(bin/mesh [a-z-]+)", r"\1x", line),) if "/bin/mesh " in line else ()
        for match in re.finditer(r":(\d{3,4})", line):
            yield f"{line[: match.start(1)]}{int(match[1]) + 1}{line[match.end(1) :]}"
    for match in re.finditer(r"\bMESH_\w+(?==)", line):
        yield f"{line[: match.end()]}X{line[match.end() :]}"
    if line.startswith(("After=", "KillMode=", "KillSignal=", "Restart=", "User=")):
        yield f"#{line}"
    if line.startswith("TimeoutStopSec="):
        yield "TimeoutStopSec=20"


@cache
def _calls(word: str) -> frozenset[str]:
    """The system calls of a group; else the one that it names."""
    if not word.startswith("@"):
        return frozenset({word})
    lines = [line.strip() for line in _analyze("syscall-filter", word).splitlines()]
    return frozenset(
        call for line in lines if line and not line.startswith("#") and line != word for call in _calls(line)
    )


def _analyze(*words: str) -> str:
    require_on_path("systemd-analyze", "what systemd says of the units")
    done = subprocess.run(
        ["systemd-analyze", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    return done.stdout + done.stderr
