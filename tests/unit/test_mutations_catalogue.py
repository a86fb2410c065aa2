"""The catalogue of `make mutations` names code and tests as they are now."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.mutations.catalogue import CATALOGUE
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", CATALOGUE, ids=lambda mutation: mutation.name)
def test_a_mutation_applies_once_and_its_tests_are_there(mutation: Mutation) -> None:
    assert (ROOT / mutation.path).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    assert (ROOT / shlex.split(mutation.tests)[0]).exists()
