"""The network of WhatsApp Web's protocol by its own tests, which have a real client: in Go, beside it."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.builds import run
from tests.support.tools import require_on_path

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "simulator" / "whatsapp_web_network"


def test_the_network_does_what_its_tests_say() -> None:
    require_on_path("go", "the network of WhatsApp Web's protocol")
    run([str(ROOT / "deploy" / "tools" / "build-go"), "stubs"], ROOT)
    run(["go", "vet", "./..."], MODULE)
    run(["go", "test", "./..."], MODULE)
