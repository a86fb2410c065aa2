"""Where the servers' programs are: on PATH when new enough, else in the wheel that brings one."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mesh_cli.embedded.errors import ServerFailed

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """One server program.

    `names`: on PATH, the preferred first; `least`: the oldest version that will do; `package` and `inside`:
    the wheel that brings one, and a pattern of its path there (`*` for a folder named for the platform).
    """

    names: tuple[str, ...]
    least: Version
    package: str
    inside: str

    def candidates(self) -> list[tuple[Path, Version]]:
        """Paths of usable programs with their versions, the preferred first."""
        places = [Path(found).resolve() for found in map(shutil.which, self.names) if found]
        places += _package_folder(self.package).glob(self.inside)
        versions = [(place, program_version(place)) for place in places]
        return [(place, version) for place, version in versions if version >= self.least]

    def path(self) -> Path:
        """The preferred program.

        Raises:
            ServerFailed: neither PATH nor the wheel has a usable one.
        """
        for place, _ in self.candidates():
            return place
        least = ".".join(map(str, self.least))
        raise ServerFailed(
            self.names[0], f"has no program of version {least} or newer on PATH or in {self.package}"
        )


def program_version(program: Path) -> Version:
    """The first dotted number that `program --version` prints, such as (18, 4)."""
    printed = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    number = re.search(r"\d+(?:\.\d+)+", printed)
    return tuple(int(part) for part in number.group().split(".")) if number else ()


def _package_folder(package: str) -> Path:
    """Found without importing: these packages do work of their own when imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed(package, "is not installed")
    return Path(spec.submodule_search_locations[0])
