"""The sidecar of linked devices by its own tests, in Go, beside it: what it does with ratchets and rows, and
the rest against the network of WhatsApp Web's protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.builds import ROOT
from tests.acceptance.go_module import Ended, GoModule, chosen, must_pass, ready

MODULE = GoModule(ROOT / "services" / "session-node" / "whatsapp_web_sidecar")
NETWORK = Path(sys.executable).parent / "whatsapp-web-network"


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest) -> Mapping[str, Ended]:
    ready("the sidecar of linked devices")
    # By the name that it has in the cache: with another network the tests run again.
    return MODULE.run(chosen(request), {"MESH_WHATSAPP_WEB_NETWORK": str(NETWORK.resolve())})


@pytest.mark.parametrize("test", MODULE.tests())
def test_the_sidecar_does_what_its_tests_say(test: str, ended: Mapping[str, Ended]) -> None:
    must_pass(ended[test])


def test_the_sidecars_program_is_as_go_wants_it() -> None:
    ready("the sidecar of linked devices")
    MODULE.check()
