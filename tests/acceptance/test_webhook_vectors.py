"""What docs/examples has to verify webhooks in other languages agrees with the mesh on every vector.

The Python client's own is in tests/unit, the TypeScript client's among its own tests.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from tests.acceptance.example_programs import answers, go_example, java_example
from tests.support.webhook_vectors import WebhookVector, webhook_vectors

PROGRAMS = Path(__file__).parent / "webhook_programs"
COMMAND_OF = {
    "Go": lambda: go_example("webhooks", PROGRAMS),
    "Java": lambda: java_example("Webhooks", PROGRAMS / "CheckWebhooks.java"),
}


@pytest.mark.parametrize("language", COMMAND_OF)
def test_an_example_agrees_with_every_vector(language: str) -> None:
    command = COMMAND_OF[language]()
    vectors = webhook_vectors()
    said = answers(command, [line(vector) for vector in vectors])
    expected = ["valid" if vector.valid else "invalid" for vector in vectors]
    pairs = zip(vectors, expected, said, strict=True)
    assert [(vector.why, answer) for vector, due, answer in pairs if answer != due] == []


def line(vector: WebhookVector) -> str:
    """As the programs read it."""
    fields = (vector.secret, vector.id, vector.timestamp, vector.signature, vector.body, str(vector.now))
    return " ".join("-" if field is None else b64encode(field.encode()).decode() for field in fields)
