"""What a process takes of its machine, as prometheus_client reads it from /proc."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import PLATFORM_COLLECTOR, REGISTRY, ProcessCollector

from mesh_core.metrics.catalogue import describe
from mesh_core.metrics.family import Kind, Metric


def watch_process(namespace: str, pid: Callable[[], int]) -> None:
    """Show another process, under names that begin with `namespace`, while `pid` is of one that runs."""
    ProcessCollector(namespace=namespace, pid=pid, registry=REGISTRY)
    _describe(f"{namespace}_")


def _describe(prefix: str) -> None:
    """What prometheus_client shows of a process."""
    for name, kind, meaning, answers in _OF_A_PROCESS:
        describe(Metric(prefix + name, kind, meaning, answers))


_OF_A_PROCESS = (
    (
        "process_cpu_seconds_total",
        Kind.COUNTER,
        "Processor time, user and system.",
        "How busy is the process?",
    ),
    (
        "process_resident_memory_bytes",
        Kind.GAUGE,
        "Memory that it takes.",
        "Does it grow, and how near is the machine's end?",
    ),
    ("process_virtual_memory_bytes", Kind.GAUGE, "Address space.", "Is much mapped and not used?"),
    (
        "process_start_time_seconds",
        Kind.GAUGE,
        "When it started, since 1970.",
        "Was it started again?",
    ),
    (
        "process_open_fds",
        Kind.GAUGE,
        "Open files and connections.",
        "Does it leak connections?",
    ),
    (
        "process_max_fds",
        Kind.GAUGE,
        "How many it may open.",
        "How near is it to where it can take no connection?",
    ),
)
_describe("")
for _name, _meaning in (
    ("python_gc_objects_collected_total", "Objects that the garbage collector freed."),
    ("python_gc_objects_uncollectable_total", "Objects that it could not free."),
    ("python_gc_collections_total", "Runs of the garbage collector."),
):
    describe(
        Metric(
            _name,
            Kind.COUNTER,
            _meaning,
            "Does the garbage collector cost much?",
            {"generation": ("0", "1", "2")},
        )
    )
REGISTRY.unregister(PLATFORM_COLLECTOR)  # mesh_build_info says it
