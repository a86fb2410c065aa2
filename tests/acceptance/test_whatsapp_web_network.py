"""The network of WhatsApp Web's protocol by its own tests, which have a real client: in Go, beside it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.acceptance.builds import ROOT
from tests.acceptance.go_module import Ended, GoModule, chosen, must_pass, ready

MODULE = GoModule(ROOT / "simulator" / "whatsapp_web_network")


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest) -> Mapping[str, Ended]:
    ready("the network of WhatsApp Web's protocol")
    return MODULE.run(chosen(request), {})


@pytest.mark.parametrize("test", MODULE.tests())
def test_the_network_does_what_its_tests_say(test: str, ended: Mapping[str, Ended]) -> None:
    must_pass(ended[test])


def test_the_networks_program_is_as_go_wants_it() -> None:
    ready("the network of WhatsApp Web's protocol")
    MODULE.check()
