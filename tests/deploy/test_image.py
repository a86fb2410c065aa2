"""The Dockerfile: rootless, bases with digests, nothing of the build left; no change goes unnoticed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "docker" / "Dockerfile"
INSTALLED = "/opt/sessionmesh"
PORTS = "7600 7601 9464"
"""gRPC, batched calls, metrics: what all deployments set."""


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_as_deployments_need_it() -> None:
    assert findings(DOCKERFILE.read_text()) == []


def test_no_change_goes_unnoticed(record_property: Callable[[str, object], None]) -> None:
    noticed = {what: bool(findings(text)) for what, text in _changes(DOCKERFILE.read_text())}
    record_property("deploy_mutations", len(noticed))
    record_property("deploy_mutations_noticed", sum(noticed.values()))
    assert len(noticed) > 10
    assert [what for what, seen in noticed.items() if not seen] == []


def test_all_that_the_mesh_needs_is_locked_for_the_image() -> None:
    project = tomllib.loads((DOCKERFILE.parents[2] / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"(?m)^([\w.-]+)==", DOCKERFILE.with_name("requirements.lock").read_text()))
    needed = {re.split(r"[^\w.-]", need, maxsplit=1)[0].lower() for need in project["dependencies"]}
    assert needed - locked == set(), "run make lock"


def findings(text: str) -> list[str]:
    """One sentence for each thing that is wrong."""
    return list(_findings(re.sub(r"\\\n\s*", "", text)))


def _findings(text: str) -> Iterator[str]:
    stages = [stage for stage in re.split(r"(?m)^(?=FROM )", text) if stage.startswith("FROM ")]
    if [stage.split("\n")[0] for stage in stages] != [
        "FROM ${GO} AS go",
        "FROM ${BASE} AS build",
        "FROM ${BASE}",
    ]:
        yield "its stages are others"
        return
    build, final = stages[1:]
    if re.search(r"(?m)^ARG \w+=", text):
        yield "a base has a default, which has no digest"
    if 'for image in "$BASE" "$GO"; do [[ $image == *@sha256:* ]] ||' not in build:
        yield "a base needs no digest"
    if f"RUN deploy/docker/install {INSTALLED}\n" not in build:
        yield "something else is installed"
    if re.findall(r"(?m)^COPY (.*)$", build) != ["--from=go /usr/local/go /usr/local/go", ". ."]:
        yield "it is built of something else"
    if re.findall(r"(?m)^COPY (.*)$", final) != [f"--from=build {INSTALLED} {INSTALLED}"]:
        yield "the image has something else in it"
    if re.search(r"apt-get|pip |curl|wget", final):
        yield "something is installed in the last stage"
    yield from _instructions(final)


def _instructions(final: str) -> Iterator[str]:
    wanted = {
        "USER": "10001:10001",
        "EXPOSE": PORTS,
        "ENTRYPOINT": '["mesh"]',
        "CMD": '["--help"]',
        "WORKDIR": "/tmp",
    }
    for instruction, value in wanted.items():
        if re.findall(rf"(?m)^{instruction} (.*)$", final) != [value]:
            yield f"{instruction} is not {value}"
    if not re.search(r'(?m)^HEALTHCHECK .*--start-period=60s .*CMD \["mesh-health"\]$', final):
        yield "it does not say whether it is healthy"
    if f"ENV PATH={INSTALLED}/bin:$PATH" not in final:
        yield "its programs are not found"
    if "groupadd --gid 10001 " not in final or "useradd --uid 10001 --gid 10001 " not in final:
        yield "its user has another number"
    if "install -d -o 10001 -g 10001 /var/spool/sessionmesh /var/lib/sessionmesh" not in final:
        yield "its volumes belong to somebody else"


def _changes(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction left out, each number one higher, each base with a default."""
    for match in re.finditer(r"(?m)^(USER|EXPOSE|HEALTHCHECK|ENTRYPOINT|COPY|RUN deploy).*\n", text):
        yield f"without {match[0].strip()}", text[: match.start()] + text[match.end() :]
    for match in re.finditer(r"\b(7600|7601|9464|10001)\b", text):
        yield (
            f"{match[0]} at {match.start()}",
            f"{text[: match.start()]}{int(match[0]) + 1}{text[match.end() :]}",
        )
    for name in ("BASE", "GO"):
        yield f"{name} with a default", text.replace(f"ARG {name}\n", f"ARG {name}=python:3\n", 1)
        yield f"{name} without a digest", text.replace(f'"${name}"', "", 1)
    yield "another health check", text.replace("mesh-health", "mesh-healthy")
    yield "another command", text.replace('ENTRYPOINT ["mesh"]', 'ENTRYPOINT ["meshx"]')
