"""Takes out one guard at a time, in a copy of the tree, and shows that the tests notice.

    python -m tests.mutations [WORD]     only those whose name has WORD in it

Exits with 1 when some guard can be taken out unnoticed, or when a mutation no longer applies.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.catalogue import CATALOGUE
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).parent.parent.parent
SOURCES = (
    "lib",
    "services/router",
    "services/session-node",
    "services/media",
    "services/webhook",
    "clients/python",
    "cli",
    "simulator",
)
TESTS_FAILED = 1
"""pytest's exit code when tests ran and some failed; anything else says that they could not run."""


def main(word: str = "") -> int:
    chosen = [mutation for mutation in CATALOGUE if word in mutation.name]
    with tempfile.TemporaryDirectory(prefix="mesh-mutations-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        if not _tests_pass(tree, chosen):
            return 1
        unnoticed = [mutation for mutation in chosen if not _is_noticed(tree, mutation)]
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} noticed")
    return 1 if unnoticed else 0


def _copy(tree: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    for name in filter(None, tracked.stdout.split("\0")):
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)  # some lead to folders
    for made in ("gen", "gen-go"):
        if (ROOT / made).exists():
            (tree / made).symlink_to(ROOT / made)


def _tests_pass(tree: Path, chosen: list[Mutation]) -> bool:
    """Without a mutation: else their failures would mean nothing."""
    for tests in sorted({mutation.tests for mutation in chosen}):
        done = _run(tree, tests)
        if done.returncode != 0:
            print(f"fails without any mutation: {tests}\n{done.stdout[-3000:]}")
            return False
    return True


def _is_noticed(tree: Path, mutation: Mutation) -> bool:
    began = time.monotonic()
    path = tree / mutation.path
    original = path.read_text()
    if original.count(mutation.old) != 1:
        print(f"DOES NOT APPLY  {mutation.name}: {mutation.path} has changed")
        return False
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        done = _run(tree, mutation.tests)
    finally:
        path.write_text(original)
    noticed = done.returncode == TESTS_FAILED
    verdict = "noticed" if noticed else f"NOT NOTICED (pytest: {done.returncode})"
    print(f"{verdict:12}  {time.monotonic() - began:5.1f} s  {mutation.name}", flush=True)
    return noticed


def _run(tree: Path, tests: str) -> subprocess.CompletedProcess[str]:
    paths = [str(tree / source) for source in (*SOURCES, "gen")]
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *shlex.split(tests)],
        cwd=tree,
        env={
            **os.environ,
            "PATH": programs,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
