"""How often TestEndpoint may be called."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mesh_core.errors import ResourceExhausted
from mesh_core.ids import new_uuid
from mesh_webhook.api.trials import AT_ONCE, PER_MINUTE, Trials

TENANT, ENDPOINT = new_uuid(), new_uuid()


def quota_of(trials: Trials) -> str | None:
    with pytest.raises(ResourceExhausted) as caught, trials.one(TENANT, ENDPOINT):
        pass
    return caught.value.quota


def test_an_endpoint_is_tested_a_number_of_times_a_minute_and_then_one_by_one() -> None:
    now = 0.0
    trials = Trials(lambda: now)
    for _ in range(PER_MINUTE):
        with trials.one(TENANT, ENDPOINT):
            pass
    assert quota_of(trials) == "test_endpoint_per_minute"
    now = 60.0 / PER_MINUTE
    with trials.one(TENANT, ENDPOINT):
        pass
    assert quota_of(trials) == "test_endpoint_per_minute"


def test_a_tenant_waits_for_few_tests_at_once_and_another_tenant_for_its_own() -> None:
    trials = Trials(lambda: 0.0)
    with ExitStack() as running:
        for _ in range(AT_ONCE):
            running.enter_context(trials.one(TENANT, new_uuid()))
        assert quota_of(trials) == "test_endpoint_at_once"
        with trials.one(new_uuid(), ENDPOINT):
            pass
    with trials.one(TENANT, ENDPOINT):
        pass


def test_endpoints_whose_minute_is_over_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_webhook.api.trials._MAX_ENDPOINTS", 3)
    now = 0.0
    trials = Trials(lambda: now)
    for _ in range(10):
        with trials.one(TENANT, new_uuid()):
            now += 61.0
    assert len(trials._next) <= 4
