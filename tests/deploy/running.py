"""A deployment that runs: started in its order, waited for by its health checks, rolled and killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.deploy.deployment import Deployment, Need, Service
from tests.deploy.servers import server_of
from tests.deploy.site import WITHOUT_IMAGE, Site
from tests.support.eventually import wait_until

HEALTHY_SECONDS = 180.0
TAIL_LINES = 25


@dataclass(slots=True)
class Container:
    """One service's process."""

    service: Service
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.service.name} was not started"
        return self.process.pid

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"--- {self.service.name}", *lines[-TAIL_LINES:]])


class RunningDeployment:
    """The services of a deployment as processes at a site."""

    def __init__(self, deployment: Deployment, site: Site, folder: Path) -> None:
        self.site = site
        self.deployment = deployment
        self._containers = {
            name: Container(service, folder / f"{name}.log") for name, service in deployment.services.items()
        }
        # Services end with the thread that started them (`--pdeathsig`): a test's threads end with its loop.
        self._starter = ThreadPoolExecutor(1)

    def start(self) -> None:
        """Every service, each once what it needs has happened."""
        self.site.open(list(self._containers))
        for service in self.deployment.start_order():
            for name, need in service.needs.items():
                self.await_need(name, need)
            self.spawn(service.name)
            if service.ends:
                self.await_need(service.name, Need.COMPLETED)
        for name in self.serving():
            self.until_healthy(name)

    def serving(self) -> list[str]:
        """The names of all services that go on."""
        return [name for name, container in self._containers.items() if not container.service.ends]

    def parts(self) -> list[str]:
        """Of these the parts of the mesh."""
        return [name for name in self.serving() if self._containers[name].service.is_part]

    def spawn(self, name: str) -> None:
        container = self._containers[name]
        with container.log.open("ab") as log:
            container.process = self._starter.submit(
                subprocess.Popen,
                self.site.command(container.service, _words(container.service)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ).result()

    def await_need(self, name: str, need: Need) -> None:
        """Wait for what a dependency's condition names."""
        container = self._containers[name]
        if need is Need.HEALTHY:
            self.until_healthy(name)
        elif need is Need.COMPLETED:
            code = wait_until(lambda: _ended(container), HEALTHY_SECONDS, f"the end of {name}")
            assert code == "0", f"{name} ended with {code}\n{container.tail()}"

    def until_healthy(self, name: str) -> None:
        """Until its health check succeeds."""
        container = self._containers[name]
        if not container.service.health:
            return

        def healthy() -> bool:
            assert _ended(container) == "", container.tail()
            check = self.site.beside(container.service, container.pid, list(container.service.health))
            return subprocess.run(check, capture_output=True, check=False).returncode == 0

        try:
            wait_until(healthy, HEALTHY_SECONDS, f"{name} healthy")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{container.tail()}") from None

    def roll(self, name: str) -> int:
        """End a service as an update does, start it again, wait until it is healthy; its exit code."""
        container = self._containers[name]
        assert container.process is not None
        time.sleep(container.service.pause_seconds)  # as long as Kubernetes waits, while it still serves
        container.process.terminate()
        began = time.monotonic()
        code = container.process.wait(container.service.stop_seconds)
        assert time.monotonic() - began < container.service.stop_seconds
        self.spawn(name)
        self.until_healthy(name)
        return code

    def kill(self, name: str) -> None:
        """SIGKILL a service with all that it started, and start it again as its restart policy does."""
        _kill(self._containers[name])
        self.spawn(name)
        self.until_healthy(name)

    def report(self) -> str:
        """The ends of all logs."""
        return "\n".join(container.tail() for container in self._containers.values())

    def close(self) -> None:
        """End whatever still runs."""
        for container in self._containers.values():
            if container.process is not None and container.process.poll() is None:
                _kill(container)
        self._starter.shutdown()
        self.site.close()


@contextmanager
def running(deployment: Deployment, site: Site, folder: Path) -> Iterator[RunningDeployment]:
    """The deployment, started; nothing of it is left."""
    deployed = RunningDeployment(deployment, site, folder)
    try:
        deployed.start()
        yield deployed
    finally:
        deployed.close()


def without(deployment: Deployment, names: Sequence[str]) -> Deployment:
    """The deployment without services whose programs are not on this machine."""
    kept = {
        name: replace(service, needs={need: how for need, how in service.needs.items() if need not in names})
        for name, service in deployment.services.items()
        if name not in names
    }
    return replace(deployment, services=kept)


def _words(service: Service) -> list[str]:
    """The command as the image would run it."""
    if service.is_mesh:
        return ["mesh", *service.command]
    image = service.image.rpartition("/")[2].partition(":")[0]
    entrypoint = WITHOUT_IMAGE / image
    assert server_of(service) is not None
    return [str(entrypoint), *service.command] if entrypoint.exists() else list(service.command)


def _kill(container: Container) -> None:
    """End it and all that it started, as the end of a container does."""
    assert container.process is not None
    own = psutil.Process(container.pid)
    family = [own, *own.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    container.process.wait()
    psutil.wait_procs(family)


def _ended(container: Container) -> str:
    """The exit code as text, empty while it runs."""
    code = container.process.poll() if container.process is not None else None
    return "" if code is None else str(code)
