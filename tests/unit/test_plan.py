"""`mesh plan`: enough of everything, also with one machine less, and each figure with where it comes from."""

from __future__ import annotations

import json
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_cli.commands.plan import COLUMNS
from mesh_cli.plan import MOST_PER_NODE, Demand
from mesh_cli.plan.deployments import SIZES, deployments_of, fleet_of, settings_file
from mesh_cli.plan.layout import OUTBOX_BYTES, node_limit
from mesh_cli.plan.storage import storage_of
from mesh_core.process.start_checks import BESIDE_SESSIONS
from mesh_core.sizing.figures import BY_DRIVER, SIMULATED, WHATSAPP_WEB
from tests.support.mesh_process import run_mesh_here
from tests.support.settings_files import settings_of

GIB = 2**30
OPEN_FILES = 65_536
"""What every way of deploying lets a part open."""
ASKED = ("plan", "--accounts", "7000", "--messages-per-day", "700000")


def demand(accounts: int, messages: int = 0, **more: int) -> Demand:
    given = {"media_per_day": 0, "media_days": 30, "machine_bytes": 32 * GIB, "machine_cores": 8} | more
    return Demand(accounts, messages, figures=WHATSAPP_WEB, **given)


@given(accounts=st.integers(1, 100_000), messages=st.integers(0, 10**9))
def test_when_a_node_is_lost_the_others_hold_all_accounts_and_messages(accounts: int, messages: int) -> None:
    asked = demand(accounts, messages)
    fleet = fleet_of(asked)
    assert (fleet.nodes - 1) * fleet.accounts_per_node >= accounts
    assert fleet.accounts_per_node <= MOST_PER_NODE < OPEN_FILES - BESIDE_SESSIONS
    busy = asked.messages_per_second * WHATSAPP_WEB.node_cpu.value
    assert busy < fleet.nodes - 1, "a node uses one core"
    assert node_limit(fleet.node_bytes) > fleet.node_bytes + OUTBOX_BYTES


@given(accounts=st.integers(1, 100_000))
def test_a_machine_that_fits_in_is_as_large_as_what_is_on_it(accounts: int) -> None:
    for one in deployments_of(demand(accounts)):
        assert not one.fits or one.memory <= 32 * GIB


def test_nine_machines_are_for_seven_thousand_accounts() -> None:
    _, swarm, kubernetes = deployments_of(demand(7_000, 700_000))
    assert (swarm.machines, kubernetes.machines) == (9, 6)
    assert swarm.fits


def test_machines_that_are_too_small_are_told_with_what_they_need() -> None:
    for one in deployments_of(demand(500, machine_bytes=2 * GIB)):
        assert not one.fits
        assert "a machine needs" in one.remark


def test_more_messages_than_one_postgres_takes_fit_nowhere() -> None:
    for one in deployments_of(demand(1_000, 2_000_000_000)):
        assert not one.fits, one.name


def test_what_is_kept_grows_with_messages_and_files_and_etcd_with_neither() -> None:
    quiet = storage_of(demand(100, 1_000, media_per_day=10))
    busy = storage_of(demand(100, 2_000, media_per_day=20))
    assert busy.database == 2 * quiet.database
    assert busy.objects == 2 * quiet.objects
    assert busy.log_per_day == 2 * quiet.log_per_day
    assert busy.backups > busy.database
    assert busy.etcd == quiet.etcd


@pytest.mark.parametrize("size", SIZES)
def test_accounts_connect_as_fast_as_the_settings_have_them(size: int) -> None:
    given = settings_of(size)
    need = fleet_of(demand(size))
    seconds = ceil(int(given["MESH_NODE_CAPACITY"]) / int(given["MESH_SESSION_CONNECTS_PER_SECOND"]))
    assert need.connect_seconds == seconds


@pytest.mark.parametrize(
    ("accounts", "size"), [(1, 100), (100, 100), (101, 500), (2_000, 2_000), (7_000, 7_000), (7_001, 0)]
)
def test_the_smallest_settings_that_fit_are_named(accounts: int, size: int) -> None:
    assert settings_file(accounts) == (f"deploy/settings/{size}-accounts.env" if size else "")


def test_a_linked_device_takes_more_than_a_simulated_account() -> None:
    assert {*BY_DRIVER} == {"simulated", "whatsapp_web"}
    assert WHATSAPP_WEB.account_bytes.value > 10 * SIMULATED.account_bytes.value


def test_a_plan_fits_a_terminal_and_tells_where_its_figures_are_from() -> None:
    shown = run_mesh_here(*ASKED, "--media-per-day", "70000")
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= COLUMNS
    assert "6 session-nodes with MESH_NODE_CAPACITY=1400" in shown.stdout
    assert "deploy/settings/7000-accounts.env" in shown.stdout
    assert "Not measured: the real network" in shown.stdout
    assert "Beside it: 57.2 MiB and 0.006 cores an account" in shown.stdout
    assert "bench message" in shown.stdout


def test_a_plan_for_programs_has_the_same_in_bytes() -> None:
    found = json.loads(run_mesh_here(*ASKED, "--json").stdout)
    assert found["session_nodes"]["nodes"] == 6
    assert {one["name"] for one in found["deployments"]} >= {"Swarm", "Kubernetes"}
    assert all(one["commit"] and one["date"] and one["command"] for one in found["figures"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--machine-memory", "much"), "is not an amount"),
        (("--machine-memory", "1M"), "1GiB at least"),
        (("--machine-cores", "0"), "--machine-cores"),
        (("--media-days", "0"), "--media-days"),
        (("--driver", "carrier_pigeon"), "--driver"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_its_name(more: tuple[str, ...], words: str) -> None:
    refused = run_mesh_here(*ASKED, *more)
    assert refused.exit_code == 2
    assert words in refused.output
