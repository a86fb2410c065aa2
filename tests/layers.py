"""How the modules hang together: circles, imports against the layers, modules too long or too short.

    python -m tests.layers [--json F]

Counts, in what is installed (without what is generated) and in the benchmarks:

- `circles`: sets of modules, and of folders, that import each other in a circle. An import for types only, or
  in a function, counts. A module that lies directly in a package counts to that package's folder.
- `upward`: imports against the layers. Which these are stands in pyproject.toml, in the contracts of
  import-linter; this counts each import that breaks one, direct ones only.
- `over_350`: modules over 350 lines, unless a paragraph of the docstring begins with "In one piece because".
- `under_40`: modules under 40 lines other than `__init__` and migrations, which Alembic wants apart.

The exit code is 1 when one of the first three is not 0, or `under_40` is above 17.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[1]
LONG = 350
REASON = "In one piece because"
SHORT = 40
MOST_SHORT = 17

Node = TypeVar("Node", bound=Hashable)
Graph = Mapping[Node, set[Node]]


@dataclass(frozen=True, slots=True)
class Module:
    """A module by its dotted name, and what it imports of our own, each with the line."""

    name: str
    path: Path
    lines: int
    docstring: str
    imports: tuple[tuple[str, int], ...]

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def folder(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Upward:
    """An import from a lower layer, or from beside, of what lies above or apart."""

    contract: str
    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported} ({self.contract})"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.layers", description="Check how modules hang together."
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    modules = read_modules(ROOT, settings)
    graphs = (module_graph(modules), folder_graph(modules))
    found: dict[str, list[str]] = {
        "circles": [" ".join(sorted(each)) for graph in graphs for each in circles(graph)],
        "upward": [str(each) for each in upward(modules, settings["importlinter"]["contracts"])],
        "over_350": [f"{each.name}: {each.lines} lines" for each in modules.values() if is_too_long(each)],
        "under_40": [f"{each.name}: {each.lines} lines" for each in modules.values() if is_short(each)],
    }
    limits = {"circles": 0, "upward": 0, "over_350": 0, "under_40": MOST_SHORT}
    counts = {name: len(items) for name, items in found.items()}
    failed = [name for name, count in counts.items() if count > limits[name]]
    for name, items in found.items():
        print(f"{name:10} {counts[name]:4}  (at most {limits[name]})")
        if name in failed:
            for item in items:
                print(f"    {item}")
    if options.json:
        options.json.write_text(json.dumps({**counts, "modules": len(modules), "found": found}, indent=1))
    return 1 if failed else 0


def read_modules(root: Path, settings: Mapping[str, Any]) -> dict[str, Module]:
    """By name: the modules of all packages that an editable install has, and the benchmarks."""
    folders = [name for name in settings["hatch"]["build"]["dev-mode-dirs"] if name != "gen"]
    packages = [init.parent for name in folders for init in sorted(root.glob(f"{name}/*/__init__.py"))]
    paths = {}
    for package in [*packages, root / "bench"]:
        for path in sorted(package.rglob("*.py")):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            paths[name.removesuffix(".__init__")] = path
    return {name: _read(name, path, paths) for name, path in paths.items()}


def module_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    return {name: {imported for imported, _ in module.imports} - {name} for name, module in modules.items()}


def folder_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        graph[module.folder] |= {modules[imported].folder for imported, _ in module.imports} - {module.folder}
    return graph


def circles(graph: Graph[Node]) -> list[list[Node]]:
    """The sets of nodes of which each leads to each other one (Tarjan's strongly connected components)."""
    number: dict[Node, int] = {}
    lowest: dict[Node, int] = {}
    open_nodes: dict[Node, None] = {}
    found = []

    def visit(node: Node) -> None:
        number[node] = lowest[node] = len(number)
        open_nodes[node] = None
        for other in graph.get(node, ()):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in open_nodes:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            circle = []
            while node in open_nodes:
                circle.append(open_nodes.popitem()[0])
            if len(circle) > 1:
                found.append(circle[::-1])

    for node in graph:
        if node not in number:
            visit(node)
    return found


def upward(modules: Mapping[str, Module], contracts: Iterable[Mapping[str, Any]]) -> list[Upward]:
    """Imports that a contract of type `layers` forbids.

    Names of one layer that `:` parts may import each other, those that `|` parts may not.
    """
    found = []
    for contract in contracts:
        if contract["type"] != "layers":
            continue
        for container in contract.get("containers", [""]):
            layers = [list(_names(layer, container)) for layer in contract["layers"]]
            apart = ["|" in layer for layer in contract["layers"]]
            places = {name: level for level, names in enumerate(layers) for name in names}
            for module in modules.values():
                if (here := _place(module.name, places)) is None:
                    continue
                for imported, line in module.imports:
                    there = _place(imported, places)
                    if there is None or here == there:
                        continue
                    level, other = places[here], places[there]
                    if other < level or (other == level and apart[level]):
                        found.append(Upward(contract["name"], module.name, imported, line))
    return found


def is_too_long(module: Module) -> bool:
    paragraphs = module.docstring.split("\n\n")
    return module.lines > LONG and not any(each.startswith(REASON) for each in paragraphs)


def is_short(module: Module) -> bool:
    migration = ".migrations.versions." in module.name
    return module.lines < SHORT and not module.is_package and not migration


def _read(name: str, path: Path, known: Mapping[str, Path]) -> Module:
    text = path.read_text()
    tree = ast.parse(text)
    imports = tuple(
        (imported, line) for imported, line in _imports(name, path, tree, known) if imported != name
    )
    return Module(name, path, len(text.splitlines()), ast.get_docstring(tree) or "", imports)


def _imports(name: str, path: Path, tree: ast.Module, known: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in known:
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                imported = f"{base}.{alias.name}"
                imported = imported if imported in known else base
                if imported in known:
                    yield imported, node.lineno


def _names(layer: str, container: str) -> Iterator[str]:
    """The modules of a layer's line; one in parentheses need not exist."""
    for name in layer.replace("|", ":").split(":"):
        bare = name.strip().removeprefix("(").removesuffix(")")
        yield f"{container}.{bare}" if container else bare


def _place(name: str, places: Mapping[str, int]) -> str | None:
    """The layer's module that `name` is or lies in."""
    while name:
        if name in places:
            return name
        name = name.rpartition(".")[0]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
