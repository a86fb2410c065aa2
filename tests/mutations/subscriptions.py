"""The guards of named subscriptions and replays."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_SUBSCRIPTIONS = "services/webhook/mesh_webhook/subscriptions"
_SQL = "lib/mesh_core/database/migrations/versions/0019_subscriptions.sql"
_TESTS = "tests/integration/test_subscriptions.py"
_REPLAYS = "tests/integration/test_webhook_replays.py"

SUBSCRIPTIONS = (
    Mutation(
        "a consumer that has lost its lanes sends no more",
        f"{_SUBSCRIPTIONS}/consumers.py",
        "        if done is None or time.monotonic() - began > LEASE_SECONDS:\n",
        "        if False:\n",
        f"{_TESTS} -k lost_its_lease",
    ),
    Mutation(
        "a place that waits to be acknowledged is no floor",
        f"{_SUBSCRIPTIONS}/consumers.py",
        "if self.lanes and not self.waiting else None",
        "if self.lanes else None",
        f"{_TESTS} -k over_beats",
    ),
    Mutation(
        "accounts are handed over when their events are acknowledged",
        f"{_SUBSCRIPTIONS}/consumer_stream.py",
        "if consumer.unbalanced and not consumer.waiting:",
        "if consumer.unbalanced:",
        f"{_TESTS} -k in_hand",
    ),
    Mutation(
        "nothing new is sent while accounts are to be handed over",
        f"{_SUBSCRIPTIONS}/consumer_stream.py",
        "if consumer.unbalanced or len(consumer.waiting)",
        "if len(consumer.waiting)",
        f"{_TESTS} -k in_hand",
    ),
    Mutation(
        "lanes that were kept are read from where they stand",
        f"{_SUBSCRIPTIONS}/consumer_stream.py",
        "stored.cursor <= max(began, consumer.read)",
        "stored.cursor <= consumer.read",
        f"{_TESTS} -k late_acknowledgements",
    ),
    Mutation(
        "a consumer has a new id when its lanes change",
        f"{_SUBSCRIPTIONS}/subscription_store.py",
        "ELSE c.id = $4 AND",
        "ELSE",
        f"{_TESTS} -k 'late_acknowledgements or has_ended'",
    ),
    Mutation(
        "nothing is acknowledged that was not sent",
        f"{_SUBSCRIPTIONS}/subscription_store.py",
        "least($3, c.sent))",
        "$3)",
        f"{_TESTS} -k for_all",
    ),
    Mutation(
        "a consumer that beats is not ended as a dead one",
        _SQL,
        "AND (NOT lapsed OR lapse_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + 2 * lease)",
        "",
        f"{_TESTS} -k dead_one",
    ),
    Mutation(
        "what a consumer leaves begins where it acknowledged",
        _SQL,
        "SET place = greatest(place, acknowledged), holder = NULL",
        "SET holder = NULL",
        f"{_TESTS} -k 'gives_its_accounts or come_again'",
    ),
    Mutation(
        "subscriptions expire before the day that they have not acknowledged goes",
        "services/router/mesh_router/retention/days.py",
        "await expire_behind(connection",
        "print(connection",
        "tests/integration/test_retention.py -k Subscriptions",
    ),
    Mutation(
        "subscriptions expire before a shorter tenant's events go",
        "services/router/mesh_router/retention/shorter.py",
        "await expire_behind(connection",
        "print(connection",
        "tests/integration/test_retention.py -k Subscriptions",
    ),
    Mutation(
        "replays come last",
        _SQL,
        "ORDER BY y.replayed, y.due_at LIMIT",
        "ORDER BY y.due_at LIMIT",
        "tests/integration/test_webhook_claims.py -k replays_last",
    ),
    Mutation(
        "a replay leaves what waits as it is",
        _SQL,
        "AND d.state <> 1 AND",
        "AND",
        f"{_REPLAYS} -k only_the_time",
    ),
    Mutation(
        "what was erased after it was read is not replayed",
        _SQL,
        "IS DISTINCT FROM r.size) THEN",
        "= -1) THEN",
        f"{_REPLAYS} -k emptied",
    ),
    Mutation(
        "a replay waits while enough of it waits",
        "services/webhook/mesh_webhook/deliveries/replays.py",
        ">= MOST_WAITING:",
        ">= 10**9:",
        f"{_REPLAYS} -k holds_up_no_other",
    ),
    Mutation(
        "a replayed delivery does not expire for its age",
        "services/webhook/mesh_webhook/deliveries/maintenance.py",
        "AND (replay IS NULL OR due_at",
        "AND (true OR due_at",
        "tests/integration/test_webhook_claims.py -k waits_as_long",
    ),
)
