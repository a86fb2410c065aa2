"""Every way of changing one thing in a deployment that must not go unnoticed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.deploy.deployment import Deployment, Need, Service


def changed(deployment: Deployment) -> Iterator[tuple[str, Deployment]]:
    """Each change in words, with the deployment: of a command, port, variable, dependency, health check."""
    for service in deployment.services.values():
        for what, other in _changes(service):
            yield (
                f"{service.name}: {what}",
                replace(deployment, services={**deployment.services, service.name: other}),
            )


def _changes(service: Service) -> Iterator[tuple[str, Service]]:
    yield from _commands(service)
    yield from _ports(service)
    for name, value in service.environment.items():
        environment = {key: each for key, each in service.environment.items() if key != name}
        yield f"variable {name} misspelt", replace(service, environment={**environment, f"{name}X": value})
    for name, need in service.needs.items():
        rest = {key: each for key, each in service.needs.items() if key != name}
        yield f"does not need {name}", replace(service, needs=rest)
        if need is not Need.STARTED:
            yield f"needs {name} only started", replace(service, needs={**rest, name: Need.STARTED})
    if service.hostname:
        yield "another hostname", replace(service, hostname=f"{service.hostname}x")
    if service.health:
        yield "no health check", replace(service, health=())
        misspelt = (f"{service.health[0]}x", *service.health[1:])
        yield "another health check", replace(service, health=misspelt)


def _commands(service: Service) -> Iterator[tuple[str, Service]]:
    """Programs, commands and options misspelt."""
    words = service.command
    for at, word in enumerate(words):
        after_c = at > 0 and words[at - 1] == "-c"
        is_name = (at == 0 and not word.startswith("-")) or (service.is_mesh and word.isalpha())
        if is_name or after_c or word.startswith("-"):
            name, equals, value = word.partition("=")
            misspelt = f"{name}x{equals}{value}"
            yield f"command {misspelt}", replace(service, command=(*words[:at], misspelt, *words[at + 1 :]))


def _ports(service: Service) -> Iterator[tuple[str, Service]]:
    """Each port one higher, in one place."""
    for at, word in enumerate(service.command):
        for moved in _moved(word):
            command = (*service.command[:at], moved, *service.command[at + 1 :])
            yield f"port in the command {moved}", replace(service, command=command)
    for name, value in service.environment.items():
        for moved in _moved(value) if ":" in value or name.endswith("_PORT") else ():
            yield (
                f"port in {name}={moved}",
                replace(service, environment={**service.environment, name: moved}),
            )
    for at, word in enumerate(service.health):
        for moved in _moved(word):
            health = (*service.health[:at], moved, *service.health[at + 1 :])
            yield f"port in the health check {moved}", replace(service, health=health)
    for inside, outside in service.published.items():
        rest: Mapping[int, int] = {key: each for key, each in service.published.items() if key != inside}
        yield f"publishes {inside + 1}", replace(service, published={**rest, inside + 1: outside})


def _moved(text: str) -> Iterator[str]:
    for match in re.finditer(r"(?:(?<=:)|(?<=-s3\.port=)|(?<=-p )|^)(\d{4,5})\b", text):
        yield f"{text[: match.start(1)]}{int(match[1]) + 1}{text[match.end(1) :]}"
