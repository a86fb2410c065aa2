"""The script that counts circles, upward imports, and modules too long or too short."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.layers import (
    Module,
    circles,
    folder_graph,
    is_short,
    is_too_long,
    module_graph,
    read_modules,
    upward,
)

LAYERS = {"type": "layers", "name": "downward", "layers": ["shop.top", "shop.left | shop.right", "shop.base"]}


def tree(root: Path, files: Mapping[str, str]) -> dict[str, Module]:
    """The modules of a tree whose only package is `shop`."""
    (root / "bench").mkdir()
    for name, text in {"__init__.py": "", **files}.items():
        path = root / "lib" / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_modules(root, {"hatch": {"build": {"dev-mode-dirs": ["gen", "lib"]}}})


def test_two_modules_that_import_each_other_are_a_circle_also_for_types_only(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        {
            "one.py": "from shop.two import Two",
            "two.py": "if TYPE_CHECKING:\n    from shop.one import One",
            "three.py": "import shop.one",
        },
    )
    assert [set(circle) for circle in circles(module_graph(modules))] == [{"shop.one", "shop.two"}]
    assert circles(folder_graph(modules)) == []


def test_folders_that_import_each_other_are_a_circle_without_one_of_modules(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        {
            "left/one.py": "from shop.right import two",
            "left/other.py": "",
            "right/two.py": "",
            "right/back.py": "def late():\n    from ..left.other import thing",
        },
    )
    assert circles(module_graph(modules)) == []
    assert [set(circle) for circle in circles(folder_graph(modules))] == [{"shop.left", "shop.right"}]


def test_a_module_directly_in_a_package_counts_to_its_folder(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        {"settings.py": "", "main.py": "from shop.left import one", "left/one.py": "import shop.settings"},
    )
    assert [set(circle) for circle in circles(folder_graph(modules))] == [{"shop", "shop.left"}]


def test_an_import_against_the_layers_is_found_and_others_are_not(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        {
            "top.py": "from shop import left\nfrom shop.base import x",
            "left/__init__.py": "",
            "left/in.py": "import shop.left\nimport shop.right",
            "right.py": "from shop.base import x",
            "base/__init__.py": "",
            "base/x.py": "\nfrom shop.top import thing",
        },
    )
    assert [(each.importer, each.imported, each.line) for each in upward(modules, [LAYERS])] == [
        ("shop.base.x", "shop.top", 2),
        ("shop.left.in", "shop.right", 2),
    ]


def test_layers_below_a_container_are_named_without_it(tmp_path: Path) -> None:
    modules = tree(tmp_path, {"high.py": "import shop.low", "low.py": "import shop.high"})
    contract = {"type": "layers", "name": "in", "containers": ["shop"], "layers": ["high", "(none)", "low"]}
    assert [each.importer for each in upward(modules, [contract])] == ["shop.low"]


def test_a_long_module_needs_a_reason_and_a_short_one_counts_unless_it_is_a_package(tmp_path: Path) -> None:
    lines = "x = 1\n" * 351
    modules = tree(
        tmp_path,
        {
            "long.py": f'"""What it is."""\n{lines}',
            "whole.py": f'"""What it is.\n\nIn one piece because it is one table.\n"""\n{lines}',
            "short.py": "x = 1\n" * 39,
            "fits.py": "x = 1\n" * 40,
        },
    )
    assert [name for name, module in modules.items() if is_too_long(module)] == ["shop.long"]
    assert [name for name, module in modules.items() if is_short(module)] == ["shop.short"]
