"""The programs that call what docs/examples has for other languages: a line in, a line out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.acceptance.builds import ROOT, built_once, run
from tests.acceptance.printed import SHORT_LIVED_JAVA
from tests.support.tools import require_on_path

EXAMPLES = ROOT / "docs" / "examples"
SECONDS = 60.0


def built_example(
    name: str, example: str, program: Path, build: Callable[[Path], None] = lambda _: None
) -> Path:
    """A folder with the example and the program that calls it, built."""
    sources = [EXAMPLES / example, program]

    def copy_and_build(folder: Path) -> None:
        for source in sources:
            shutil.copy(source, folder)
        build(folder)

    return built_once(name, sources, copy_and_build)


def go_example(package: str, programs: Path) -> list[str]:
    """The command of `main.go` in a folder of programs, which imports that example."""
    require_on_path("go", f"docs/examples/{package}.go")

    def build(folder: Path) -> None:
        (folder / package).mkdir()
        (folder / f"{package}.go").rename(folder / package / f"{package}.go")
        run(["go", "mod", "init", f"sessionmesh.dev/acceptance/{programs.name}"], folder)
        run(["go", "build", "-o", "check", "."], folder)

    return [str(built_example(f"{package}-go", f"{package}.go", programs / "main.go", build) / "check")]


def java_example(class_name: str, program: Path) -> list[str]:
    """The command of a program that calls that example."""
    require_on_path("javac", f"docs/examples/{class_name}.java")

    def build(folder: Path) -> None:
        run(["javac", "-Xlint:all", "-Werror", f"{class_name}.java", program.name], folder)

    folder = built_example(f"{class_name.lower()}-java", f"{class_name}.java", program, build)
    return ["java", *SHORT_LIVED_JAVA.split(), "-cp", str(folder), program.stem]


def answers(command: list[str], lines: Iterable[str]) -> list[str]:
    """What a program says to each line."""
    ended = subprocess.run(
        command,
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
