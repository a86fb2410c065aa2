"""Guards of a part's process: when it is ready, what it refuses at its start, what its logs lose."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_PROCESS = "lib/mesh_core/process"

PROCESS = (
    Mutation(
        "short outages that do not count",
        "lib/mesh_core/rpc/server/readiness.py",
        "return not self._met or now - self._failing_since >= GRACE_SECONDS",
        "return True",
        "tests/unit/test_core_readiness.py -k outage_counts",
    ),
    Mutation(
        "a node that holds shards is ready",
        "lib/mesh_core/ownership/participant/keeper.py",
        '            if any(tenure.held for tenure in self.tenures.values()):\n                return ""\n',
        "            pass\n",
        "tests/unit/test_ownership_keeper.py -k ready",
    ),
    Mutation(
        "every part's refusal of a database that is not adopted",
        f"{_PROCESS}/surroundings.py",
        "    await check_identity(database)\n",
        "",
        "tests/integration/test_refusals_at_start.py -k foreign",
    ),
    Mutation(
        "a session-node's refusal of a database that it cannot open",
        "lib/mesh_core/sealing/master_keys.py",
        "if found.closed == found.tenants:",
        "if False:",
        "tests/integration/test_refusals_at_start.py -k master_key",
    ),
    Mutation(
        "a clock that is behind",
        f"{_PROCESS}/surroundings.py",
        "if abs(off) > MOST_SECONDS_OFF:",
        "if off > MOST_SECONDS_OFF:",
        "tests/unit/test_core_surroundings.py -k off_is_refused",
    ),
    Mutation(
        "releases too far apart",
        f"{_PROCESS}/surroundings.py",
        "abs(int(here[2]) - int(there[2])) <= 1",
        "int(here[2]) - int(there[2]) <= 1",
        "tests/unit/test_core_surroundings.py -k releases_fit",
    ),
    Mutation(
        "secrets in logs for machines",
        f"{_PROCESS}/logs.py",
        "            redaction,\n            structlog.processors.JSONRenderer",
        "            structlog.processors.JSONRenderer",
        "tests/unit/test_core_redaction.py -k logs_have_no_secret",
    ),
    Mutation(
        "the end of a level by the clock",
        f"{_PROCESS}/log_levels.py",
        "for one in found.values() if one.end > now",
        "for one in found.values()",
        "tests/integration/test_log_levels.py -k cut_off",
    ),
    Mutation(
        "nothing after a child's reason",
        "lib/mesh_parent/watchdog.py",
        "    if code not in SAID_WHY:\n        log.child_ended",
        "    if True:\n        log.child_ended",
        "tests/integration/test_watchdog.py -k last_line",
    ),
)
