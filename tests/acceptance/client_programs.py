"""The programs of tests/acceptance/*_client: how each is built, and one of them at work."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.acceptance.builds import PROTOS, built_once, generated_stubs, run
from tests.acceptance.printed import SHORT_LIVED_JAVA, printed
from tests.support.tools import require_on_path

HERE = Path(__file__).parent
JAVA_PROJECT = HERE / "java_client"
LINE_SECONDS = 60.0
"""Longer than the deadline of a call, and the start of a Java machine beside other work."""


def go_client() -> list[str]:
    require_on_path("go", "the Go client")
    project, stubs = HERE / "go_client", generated_stubs() / "go"

    def build(folder: Path) -> None:
        run(["go", "build", "-o", str(folder / "client"), "."], project)

    return [str(built_once("go-client", [project, stubs], build) / "client")]


def java_client() -> list[str]:
    folder = java_project()
    class_path = f"{folder}/target/classes:{(folder / 'classpath.txt').read_text()}"
    return ["java", *SHORT_LIVED_JAVA.split(), "-cp", class_path, "MeshClient"]


def java_project() -> Path:
    """The built client and, as compiling the stubs takes most of a minute, the program of docs/stubs.md."""
    require_on_path("mvn", "the Java client")
    require_on_path("javac", "the Java client")
    section = printed("Java")

    def build(folder: Path) -> None:
        shutil.copytree(JAVA_PROJECT, folder, dirs_exist_ok=True)
        section.prepare(folder)

    return built_once("java-client", [JAVA_PROJECT, PROTOS / "v1", section.text], build)


def node_client() -> list[str]:
    require_on_path("npm", "the Node client")
    project, protos = HERE / "node_client", generated_stubs() / "protos"

    def build(folder: Path) -> None:
        shutil.copytree(project, folder, dirs_exist_ok=True)
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], folder)

    return ["node", str(built_once("node-client", [project], build) / "client.js"), str(protos)]


def typescript_client() -> list[str]:
    require_on_path("npm", "the TypeScript client")
    project, stubs = HERE / "typescript_client", generated_stubs() / "typescript"

    def build(folder: Path) -> None:
        shutil.copytree(project, folder, dirs_exist_ok=True)
        shutil.copytree(stubs, folder / "stubs")
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], folder)
        run(["npx", "tsc", "--project", "."], folder)

    return ["node", str(built_once("typescript-client", [project, stubs], build) / "built" / "client.js")]


BUILDERS = {"go": go_client, "java": java_client, "node": node_client, "typescript": typescript_client}


class WorkingProgram:
    """A client program that goes on calling, line by line."""

    def __init__(self, process: Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    async def next(self, kind: str) -> str:
        """The rest of its next line, which must be of this kind."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LINE_SECONDS):
            line = (await self._process.stdout.readline()).decode().rstrip("\n")
        found, _, rest = line.partition(" ")
        assert found == kind, f"{kind!r} was due: {line!r}\n{self._errors.read_text()}"
        return rest

    async def until(self, kind: str, value: str) -> int:
        """How many lines, all of this kind, came up to the one with this value."""
        count = 1
        while await self.next(kind) != value:
            count += 1
        return count

    async def end(self) -> None:
        """Have it end, and see that it ends well: nothing may have failed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(LINE_SECONDS):
            rest, _ = await self._process.communicate()
        assert self._process.returncode == 0, self._errors.read_text()
        assert all(line.startswith(b"done ") for line in rest.splitlines()), rest.decode()


@asynccontextmanager
async def at_work(
    command: list[str], environment: Mapping[str, str], folder: Path
) -> AsyncIterator[WorkingProgram]:
    """Starts a program, and ends it at the end of the block."""
    errors = folder / "errors.txt"
    with errors.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            *command, env=dict(environment), stdin=PIPE, stdout=PIPE, stderr=stream
        )
    try:
        program = WorkingProgram(process, errors)
        yield program
        await program.end()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
