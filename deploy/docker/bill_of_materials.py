"""What an installation is made of, and under which licences: `PREFIX/bin/python bill_of_materials.py PREFIX`.

Writes PREFIX/share/sessionmesh/sbom.cdx.json (CycloneDX 1.6: Python packages and the sidecar's Go modules),
and the texts of their licences to PREFIX/share/sessionmesh/licences/NAME/. Standard library only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

LICENCE_FILES = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "AUTHORS*")
SIDECAR = "bin/whatsapp-web-sidecar"
OURS = "sessionmesh.dev/"


@dataclass(frozen=True, slots=True)
class Component:
    """A package or module that was installed; `licence` as it names it, empty when only its texts say."""

    name: str
    version: str
    purl: str
    licence: str = ""
    texts: tuple[Path, ...] = field(default=())

    def described(self) -> dict[str, object]:
        """As CycloneDX has it."""
        licences = {"licenses": [{"license": {"name": self.licence}}]} if self.licence else {}
        return {
            "type": "library",
            "name": self.name,
            "version": self.version,
            "purl": self.purl,
            "bom-ref": self.purl,
            **licences,
        }


def main(prefix: Path) -> None:
    """Write bill and licences of what is installed under `prefix`."""
    place = prefix / "share" / "sessionmesh"
    components = sorted([*python_packages(), *go_modules(prefix / SIDECAR)], key=lambda each: each.purl)
    for component in components:
        folder = place / "licences" / component.name.replace("/", "_")
        for text in component.texts:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(text, folder / text.name)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "sessionmesh"}},
        "components": [component.described() for component in components],
    }
    place.mkdir(parents=True, exist_ok=True)
    (place / "sbom.cdx.json").write_text(json.dumps(bill, indent=1) + "\n")


def python_packages() -> list[Component]:
    """What this interpreter can import packages of."""
    return [_python_package(each) for each in distributions()]


def go_modules(program: Path) -> list[Component]:
    """What a Go program says that it was built from."""
    printed = subprocess.run(
        ["go", "version", "-m", program], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split() for line in printed.splitlines()]
    downloads = Path(_go_environment("GOMODCACHE"))
    modules = [row[1:3] for row in rows if row[:1] == ["dep"] and not row[1].startswith(OURS)]
    return [_go_module(path, version, downloads) for path, version in modules]


def _python_package(package: Distribution) -> Component:
    name, version = package.metadata["Name"], package.version
    licence = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    texts = [
        Path(str(file.locate()))
        for file in package.files or ()
        if file.parts[0].endswith(".dist-info") and any(file.match(pattern) for pattern in LICENCE_FILES)
    ]
    return Component(
        name, version, f"pkg:pypi/{name.lower()}@{version}", licence.split("\n")[0], tuple(texts)
    )


def _go_module(path: str, version: str, downloads: Path) -> Component:
    # In the cache of downloads a capital is written as "!" and the small letter.
    escaped = "".join(f"!{letter.lower()}" if letter.isupper() else letter for letter in path)
    folder = downloads / f"{escaped}@{version}"
    texts = tuple(text for pattern in LICENCE_FILES for text in sorted(folder.glob(pattern)))
    return Component(path, version, f"pkg:golang/{path}@{version}", texts=texts)


def _go_environment(name: str) -> str:
    printed = subprocess.run(["go", "env", name], check=True, capture_output=True, text=True).stdout
    return printed.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
