"""`make lint` refuses protos that break clients of the released API, however long ago that was."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.builds import ROOT
from tests.support.tools import require_on_path

LINT_SECONDS = 300.0
"""The first time it may have to get buf."""
COMMON, MESSAGE, ACCOUNT = (f"sessionmesh/v1/{name}.proto" for name in ("common", "message", "account"))
NODE = "sessionmesh/internal/v1/node.proto"
CANCEL = r"  // Withdraws a message.*?\n  \}\n"
BREAKS = {
    "a renumbered field": (COMMON, r"string username = 5;", "string username = 50;", '"5"'),
    "another type": (COMMON, r"string display_name = 7;", "bytes display_name = 7;", '"7"'),
    "a removed method": (MESSAGE, CANCEL, "", '"CancelMessage"'),
    "a removed value": (ACCOUNT, r"  DRIVER_WHATSAPP_CLOUD = 3;", "", '"3"'),
    "a renamed value": (ACCOUNT, r"DRIVER_SIMULATED = 1;", "DRIVER_IMITATED = 1;", '"DRIVER_SIMULATED"'),
    "what parts say to each other": (NODE, r"  rpc RefreshAccounts\(.*?\n  \}\n", "", '"RefreshAccounts"'),
}
"""Which place of which proto becomes what, and what the complaint names; each is made in the same copy."""


class Checkout:
    """A copy of the protos and of the tools that check them, which are taken for the released API."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(ROOT / "protos", folder / "protos")
        shutil.copytree(ROOT / "deploy" / "tools", folder / "deploy" / "tools")
        (folder / ".venv").symlink_to(ROOT / ".venv")
        (folder / "protos" / "released.binpb").unlink()
        self.release()

    def release(self) -> str:
        """What `make release-api` says."""
        ended = self._run("deploy/tools/release-api")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    def lint(self) -> str:
        """What `make lint` says of the protos: nothing when all is well."""
        ended = self._run("deploy/tools/lint-protos")
        said = ended.stdout + ended.stderr
        assert (ended.returncode == 0) == (said == ""), said
        return said

    def replace(self, proto: str, pattern: str, replacement: str) -> None:
        """Change the one place that fits the pattern."""
        place = self._folder / "protos" / proto
        changed, count = re.subn(pattern, replacement, place.read_text(), flags=re.DOTALL)
        assert count == 1, f"{count} places of {proto} fit {pattern}"
        place.write_text(changed)

    def _run(self, tool: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._folder / tool], capture_output=True, text=True, timeout=LINT_SECONDS, check=False
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    require_on_path("npm", "that the API stays compatible")
    return Checkout(tmp_path)


def test_an_addition_passes(checkout: Checkout) -> None:
    checkout.replace(
        MESSAGE,
        r"(message GetMessageRequest \{.*?)\n\}",
        r"\1\n  // Also its receipts.\n  bool with_receipts = 3;\n}",
    )
    checkout.replace(
        ACCOUNT,
        r"(  DRIVER_WHATSAPP_CLOUD = 3;)",
        r"\1\n  // Another one.\n  DRIVER_ANOTHER = 4;",
    )
    assert checkout.lint() == ""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of all `BREAKS` at once."""
    require_on_path("npm", "that the API stays compatible")
    checkout = Checkout(tmp_path_factory.mktemp("broken"))
    for proto, pattern, replacement, _ in BREAKS.values():
        checkout.replace(proto, pattern, replacement)
    return checkout.lint()


@pytest.mark.parametrize("complaint", [complaint for *_, complaint in BREAKS.values()], ids=BREAKS)
def test_what_breaks_clients_is_refused(complaints: str, complaint: str) -> None:
    assert complaint in complaints


def test_a_break_is_refused_after_any_number_of_other_changes(checkout: Checkout) -> None:
    checkout.replace(MESSAGE, CANCEL, "")
    for number in range(2):
        assert '"CancelMessage"' in checkout.lint()
        checkout.replace(
            ACCOUNT,
            r"(message GetAccountResponse \{.*?)\n\}",
            rf"\1\n  // More.\n  bool more_{number} = {8 + number};\n}}",
        )
    assert '"CancelMessage"' in checkout.lint()


def test_a_release_says_what_it_breaks_and_is_compared_with_from_then_on(checkout: Checkout) -> None:
    checkout.replace(MESSAGE, CANCEL, "")
    assert '"CancelMessage"' in checkout.release()
    assert checkout.lint() == ""
