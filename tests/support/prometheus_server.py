"""A real Prometheus with the configuration and rules of `deploy/prometheus`, which watches a test's mesh."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mesh_cli.embedded import free_port
from tests.support.alert_rules import PROMETHEUS, rule_files
from tests.support.eventually import wait_until
from tests.support.mesh_process import MeshProcess
from tests.support.tools import missing_tool

START_SECONDS = 60.0
JOBS = {"router": "router", "node": "session-node", "media": "media", "webhook": "webhook"}
"""Which job of `prometheus.yml` the parts of mesh.json are, by how their names begin."""
SECOND = {"5m": "15s", "15m": "40s", "1h": "40s"}
"""What takes minutes in production takes seconds in tests."""


class PrometheusServer:
    """What it is asked, and where it looks for targets."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def targets(self, job: str, *addresses: str) -> None:
        """Have it scrape these, under `job`. It notices within seconds."""
        place = self.folder / "targets" / f"{job}.yml"
        place.write_text(json.dumps([{"targets": list(addresses)}]))

    def watch(self, mesh: MeshProcess) -> None:
        """Scrape every part of a mesh."""
        for begins, job in JOBS.items():
            pages = [part.metrics for name, part in mesh.file.parts.items() if name.startswith(begins)]
            self.targets(job, *pages)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression, now. Raises `ValueError` with what Prometheus has against it."""
        asked = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/api/v1/query?{asked}", timeout=30
            ) as told:
                found: list[dict[str, Any]] = json.load(told)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from error
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Names and severities of the alerts that fire now."""
        found = self.query('ALERTS{alertstate="firing"}')
        return {(one["metric"]["alertname"], one["metric"]["severity"]) for one in found}


@contextmanager
def prometheus(
    folder: Path, thresholds: Mapping[tuple[str, str], str] | None = None
) -> Iterator[PrometheusServer]:
    """Run one in `folder`, which scrapes every 2 s. With `thresholds` the rules are `quick_rules`."""
    program = shutil.which("prometheus")
    if program is None:
        missing_tool("prometheus is not on PATH: install the package prometheus")
    (folder / "targets").mkdir(parents=True)
    (folder / "rules").mkdir()
    for place in rule_files():
        text = place.read_text() if thresholds is None else quick_rules(place.read_text(), thresholds)
        (folder / "rules" / place.name).write_text(text)
    settings = re.sub(r"_interval: \d+s", "_interval: 2s", (PROMETHEUS / "prometheus.yml").read_text())
    (folder / "prometheus.yml").write_text(settings)
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _ready(port), START_SECONDS, "Prometheus")
        yield PrometheusServer(folder, port)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def node_exporter() -> Iterator[str]:
    """The address of a node_exporter, which tells of this machine."""
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        missing_tool("node_exporter is not on PATH: install the package prometheus-node-exporter")
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [program, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)


def quick_rules(text: str, thresholds: Mapping[tuple[str, str], str]) -> str:
    """The same rules for a test: no `for`, windows as in `SECOND`, and other thresholds.

    A threshold is what an alert's expression ends with, so that nothing but the number is replaced.
    """
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
            rule["expr"] = re.sub(r"\[(5m|15m|1h)\]", lambda window: f"[{SECOND[window[1]]}]", rule["expr"])
            named = (rule.get("alert", ""), rule.get("labels", {}).get("severity", ""))
            if named in thresholds:
                rule["expr"], changed = re.subn(r"[-\d.]+$", thresholds[named], rule["expr"])
                assert changed == 1, rule
    return yaml.safe_dump(rules)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
