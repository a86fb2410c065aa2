"""`mesh plan`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from mesh_cli.commands.amounts import bytes_text, read_bytes
from mesh_cli.commands.output import AsJson
from mesh_cli.commands.terminal import Terminal
from mesh_cli.commands.up import Driver
from mesh_cli.plan import BUSIEST_HOUR, MOST_PER_NODE, Demand
from mesh_cli.plan.deployments import Deployment, deployments_of, fleet_of, settings_file
from mesh_cli.plan.layout import node_limit
from mesh_cli.plan.storage import FILE_BYTES, KEPT_BACKUPS, KEPT_DAYS, LOG_DAYS, Storage, storage_of
from mesh_core.sizing.figures import (
    BY_DRIVER,
    DATABASE_BYTES,
    ETCD_BYTES,
    LOG_BYTES,
    LOGIN_CPU,
    OTHERS,
    OTHERS_BYTES,
    OTHERS_CORES,
    POSTGRES_CPU,
    REST_CPU,
    ROUTER_CPU,
    STORED_SHARE,
    DriverFigures,
    Figure,
)
from mesh_core.sizing.fleet import BUSY_SHARE, FleetNeed

COLUMNS = 80
_LEAST_MEMORY = 2**30


def plan(
    accounts: Annotated[int, typer.Option(min=1, max=1_000_000, help="Accounts to keep online.")],
    messages_per_day: Annotated[
        int,
        typer.Option(min=0, max=10**12, help="Messages a day of all accounts together, sent and received."),
    ],
    media_per_day: Annotated[
        int, typer.Option(min=0, max=10**12, help="Files a day of all accounts together.")
    ] = 0,
    media_days: Annotated[int, typer.Option(min=1, max=36_500, help="Days that files are kept.")] = 30,
    driver: Annotated[Driver, typer.Option(help="The network of the accounts.")] = Driver.WHATSAPP_WEB,
    machine_memory: Annotated[str, typer.Option(help="Of one machine, such as 32GiB.")] = "32GiB",
    machine_cores: Annotated[int, typer.Option(min=1, max=1024, help="Of one machine.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Say what a number of accounts needs: machines, memory, cores, database, disks. Needs no mesh.

    The figures are those of our own benchmarks; each is told with where it comes from.
    """
    memory = read_bytes(machine_memory)
    if memory < _LEAST_MEMORY:
        raise typer.BadParameter("must be 1GiB at least", param_hint="--machine-memory")
    figures = BY_DRIVER[driver.value]
    demand = Demand(accounts, messages_per_day, media_per_day, media_days, figures, memory, machine_cores)
    fleet, storage, deployments = fleet_of(demand), storage_of(demand), deployments_of(demand)
    if as_json:
        print(json.dumps(_document(demand, fleet, storage, deployments)))
        return
    console = Terminal(width=COLUMNS, highlight=False)
    for line in _head(demand, fleet):
        console.print(line, markup=False)
    console.print(_deployments(deployments))
    for one in deployments:
        console.print(f"{one.name}: {one.remark}.", markup=False)
    console.print(_storage(demand, storage))
    for line in _unknown(demand):
        console.print(f"- {line}", markup=False)
    console.print(f"\n{_others(demand, fleet)}", markup=False)
    console.print("\nMeasured (docs/benchmarks.md):", markup=False)
    for figure in _figures(figures):
        console.print(f"- {_amount(figure)}: {figure.what}. {figure.source}.", markup=False)


def _head(demand: Demand, fleet: FleetNeed) -> Iterator[str]:
    yield (
        f"{demand.accounts:,} accounts of {demand.figures.network}, {demand.messages_per_day:,} messages a "
        f"day, {demand.messages_per_second:,.1f} a second in the busiest hour.\n"
    )
    yield (
        f"{fleet.nodes} session-nodes with MESH_NODE_CAPACITY={fleet.accounts_per_node}: one may be lost, "
        f"and the others hold all accounts. Each takes {bytes_text(fleet.node_bytes)} and "
        f"{fleet.node_cores:.2f} cores; give it {bytes_text(node_limit(fleet.node_bytes))}."
    )
    named = settings_file(demand.accounts)
    yield (
        f"Settings: {named}.\n"
        if named
        else "Settings: no file of deploy/settings is for so many; begin with the largest.\n"
    )


def _deployments(deployments: tuple[Deployment, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("deployment")
    for column in ("machines", "memory", "cores", "connections", "fits"):
        table.add_column(column, justify="right")
    for one in deployments:
        table.add_row(
            one.name,
            str(one.machines),
            bytes_text(one.memory),
            f"{one.cores:.1f}",
            str(one.connections),
            "yes" if one.fits else "no",
        )
    return table


def _storage(demand: Demand, storage: Storage) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for size, what in (
        (storage.database, f"database: {KEPT_DAYS} days of messages and events"),
        (storage.log_per_day, "a day, Postgres' log"),
        (
            storage.backups,
            f"backups: {KEPT_BACKUPS} of the database, {LOG_DAYS} days of its log as it is, and the files",
        ),
        (storage.objects, f"object storage: {demand.media_days} days of files"),
        (storage.etcd, "etcd, whatever the number of accounts"),
    ):
        table.add_row(bytes_text(size), what)
    return table


def _unknown(demand: Demand) -> Iterator[str]:
    """What the figures do not know, and what was chosen."""
    yield (
        "Not measured: the real network, which decides how fast accounts log in and what they are sent; what "
        "idle accounts cost in CPU; rows of an account's own keys, chats and contacts; traffic between "
        "machines; what media cost in CPU. Measure yours before you buy."
    )
    yield (
        f"Chosen, not measured: {BUSIEST_HOUR:.0%} of a day's messages in its busiest hour; processors "
        f"{BUSY_SHARE:.0%} busy then, with a core more on each machine for logins and media; "
        f"{FILE_BYTES // 1000} kB a file; at most {MOST_PER_NODE:,} accounts on a node, which log in again "
        f"with {MOST_PER_NODE * LOGIN_CPU.value:.0f} s of one core's work when it dies."
    )
    if demand.media_per_day:
        crossing = demand.media_per_day * FILE_BYTES * 3
        yield (
            f"Files cross the network of the mesh three times, in, to the store and out: "
            f"{bytes_text(crossing)} a day."
        )


def _others(demand: Demand, fleet: FleetNeed) -> str:
    """What a gateway of today would take for as many accounts."""
    memory, cores = bytes_text(round(demand.accounts * OTHERS_BYTES)), demand.accounts * OTHERS_CORES
    return (
        f"Beside it: {bytes_text(round(OTHERS_BYTES))} and {OTHERS_CORES:.3f} cores an account, "
        f"{memory} and {cores:,.1f} cores for all, where session-nodes take "
        f"{bytes_text(fleet.nodes * fleet.node_bytes)} here. By {OTHERS}; not measured by us."
    )


def _figures(figures: DriverFigures) -> tuple[Figure, ...]:
    of_driver = (figures.node_bytes, figures.account_bytes, figures.node_cpu)
    rest = (
        ROUTER_CPU,
        POSTGRES_CPU,
        REST_CPU,
        LOGIN_CPU,
        DATABASE_BYTES,
        LOG_BYTES,
        STORED_SHARE,
        ETCD_BYTES,
    )
    return (*of_driver, *rest)


def _amount(figure: Figure) -> str:
    if figure is STORED_SHARE:
        return f"{figure.value:.0%}"
    return bytes_text(round(figure.value)) if figure.value > 1 else f"{figure.value * 1000:.2f} ms"


def _document(
    demand: Demand, fleet: FleetNeed, storage: Storage, deployments: tuple[Deployment, ...]
) -> Mapping[str, object]:
    """All of it; bytes and seconds."""
    return {
        "accounts": demand.accounts,
        "messages_per_second": round(demand.messages_per_second, 3),
        "session_nodes": asdict(fleet) | {"nodes": fleet.nodes, "memory_limit": node_limit(fleet.node_bytes)},
        "settings": settings_file(demand.accounts),
        "deployments": [asdict(one) for one in deployments],
        "storage": asdict(storage),
        "unknown": [*_unknown(demand)],
        "figures": [asdict(one) for one in _figures(demand.figures)],
    }
