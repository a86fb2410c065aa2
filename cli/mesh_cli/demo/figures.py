"""What the demo measured, and whether all of it is as it should be."""

from __future__ import annotations

from dataclasses import dataclass, field

TRACE_SERVICES = frozenset(
    {"sessionmesh-router", "sessionmesh-session-node", "sessionmesh-media", "sessionmesh-webhook"}
)
"""The services that the trace of a photograph's message must pass through."""


@dataclass(slots=True)
class Figures:
    """The figures of `mesh demo --json`."""

    sent: int = 0
    delivered: int = 0
    lost: int = -1
    duplicates: int = -1
    overlaps: int = -1
    unreadable: int = -1
    webhooks_verified: int = 0
    failover_seconds: float = -1.0
    trace_id: str = ""
    trace_services: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """One sentence for each figure that is not as it should be; empty when all is well."""
        checks = {
            f"{self.sent} messages sent, {self.delivered} delivered": self.sent == self.delivered > 0,
            f"{self.lost} lost": self.lost == 0,
            f"{self.duplicates} duplicates": self.duplicates == 0,
            f"{self.overlaps} overlaps": self.overlaps == 0,
            f"{self.unreadable} unreadable": self.unreadable == 0,
            "no webhook verified": self.webhooks_verified > 0,
            "no failover": self.failover_seconds >= 0,
            f"the trace is missing {sorted(TRACE_SERVICES.difference(self.trace_services))}": (
                TRACE_SERVICES.issubset(self.trace_services)
            ),
        }
        return [sentence for sentence, good in checks.items() if not good]
