"""For each rule, what makes it fire and what just does not, as series that promtool plays back.

`{v}` stands for the value: `beyond` its threshold, or `at` it. A gauge is `VALUE`, and `+VALUE`
a counter that grows by so much in each minute.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One rule's threshold."""

    alert: str
    severity: str
    series: dict[str, str]
    beyond: float
    at: float


def _gauge(alert: str, severity: str, series: str, beyond: float, at: float) -> Case:
    return Case(alert, severity, {series: "{v}"}, beyond, at)


def _events(alert: str, severity: str, series: str) -> Case:
    """Something that must not happen at all, in an hour."""
    return Case(alert, severity, {series: "+{v}"}, 1, 0)


def _calls(of: str, label: str) -> str:
    return (
        f'rpc_server_call_duration_seconds_{of}{{job="router", rpc_method="sessionmesh.v1.S/Get", {label}}}'
    )


def _ended(status: str) -> str:
    return _calls("count", f'rpc_response_status_code="{status}"')


def _attempts(outcome: str) -> str:
    return f'mesh_webhook_attempts_total{{outcome="{outcome}"}}'


def _slow(alert: str, severity: str, lower: str, bound: str, upper: str) -> Case:
    """Ten calls a minute, all of them slower than `bound`; at the threshold none of them."""
    counts = {lower: "+0", bound: "+{v}", upper: "+10", "+Inf": "+10"}
    series = {_calls("bucket", f'le="{le}"'): how for le, how in counts.items()}
    return Case(alert, severity, series, 0, 10)


CASES = [
    Case(
        "MachineMemoryHigh",
        "ticket",
        {"node_memory_MemTotal_bytes": "100", "node_memory_MemAvailable_bytes": "{v}"},
        19,
        20.1,
    ),
    Case(
        "MachineMemoryHigh",
        "page",
        {"node_memory_MemTotal_bytes": "100", "node_memory_MemAvailable_bytes": "{v}"},
        9,
        10.1,
    ),
    Case("MachineCpuHigh", "ticket", {'node_cpu_seconds_total{cpu="0", mode="idle"}': "+{v}"}, 17, 18.5),
    Case("MachineCpuHigh", "page", {'node_cpu_seconds_total{cpu="0", mode="idle"}': "+{v}"}, 5.5, 6.5),
    Case(
        "MachineDiskFull",
        "ticket",
        {
            'node_filesystem_size_bytes{fstype="ext4"}': "100",
            'node_filesystem_avail_bytes{fstype="ext4"}': "{v}",
        },
        19,
        20.1,
    ),
    Case(
        "MachineDiskFull",
        "page",
        {
            'node_filesystem_size_bytes{fstype="ext4"}': "100",
            'node_filesystem_avail_bytes{fstype="ext4"}': "{v}",
        },
        7,
        8.1,
    ),
    _gauge("AccountsDisconnected", "ticket", 'mesh_sessions{state="BACKOFF"}', 11, 10),
    _gauge("AccountsDisconnected", "page", 'mesh_sessions{state="CONNECTING"}', 51, 50),
    Case(
        "ConnectedShareLow",
        "page",
        {'mesh_sessions{state="CONNECTED"}': "{v}", 'mesh_sessions{state="BACKOFF"}': "5"},
        94,
        95,
    ),
    _gauge("NetworkFailing", "page", 'mesh_fleet_alarm{kind="network_failing"}', 1, 0),
    Case("AccountsLost", "page", {'mesh_session_ends_total{cause="BANNED"}': "+{v}"}, 0.2, 0.15),
    _events(
        "LoginsUnusable",
        "page",
        'mesh_session_unusable_logins_total{network="whatsapp_web", reason="CLIENT_EXPIRED"}',
    ),
    _gauge("AccountsUnloadable", "ticket", 'mesh_sessions_unloadable{instance="n"}', 1, 0),
    _gauge("SessionsRisky", "ticket", "mesh_sessions_risky", 1, 0),
    _events("ForeignFailures", "ticket", 'mesh_foreign_failures_total{what="message"}'),
    _slow("CallsSlow", "ticket", "0.25", "0.5", "1.0"),
    _slow("CallsSlow", "page", "0.5", "1.0", "2.5"),
    _slow("CallsStuck", "page", "2.5", "5.0", "10.0"),
    Case(
        "CallsFailing",
        "ticket",
        {_ended("OK"): "+{v}", _ended("INTERNAL"): "+1"},
        90,
        100,
    ),
    Case(
        "CallsFailing",
        "page",
        {_ended("OK"): "+{v}", _ended("UNAVAILABLE"): "+1", _ended("UNAUTHENTICATED"): "+1000"},
        8,
        10,
    ),
    _gauge("OutboxOld", "ticket", "mesh_outbox_oldest_age_seconds", 901, 900),
    Case(
        "CacheHitRateLow",
        "ticket",
        {
            'mesh_cache_lookups_total{cache="numbers", outcome="hit"}': "+{v}",
            'mesh_cache_lookups_total{cache="numbers", outcome="miss"}': "+2",
        },
        7,
        8.1,
    ),
    Case(
        "WebhookFailures",
        "ticket",
        {_attempts("succeeded"): "+{v}", _attempts("retrying"): "+2"},
        97,
        99,
    ),
    Case(
        "WebhookFailures",
        "page",
        {_attempts("succeeded"): "+{v}", _attempts("failed"): "+5"},
        94,
        96,
    ),
    _gauge("WebhookQueueLong", "ticket", "mesh_webhook_pending_deliveries", 1001, 1000),
    _gauge("EventsPositionStuck", "page", "mesh_webhook_fan_out_standstill_seconds", 31, 30),
    Case(
        "EventsGivenUp",
        "ticket",
        {"mesh_webhook_given_up_events_total": "+{v}", "mesh_webhook_skipped_events_total": "0"},
        1,
        0,
    ),
    _gauge("PartDown", "page", 'up{job="media", instance="m"}', 0, 1),
    _gauge("ShardsUnowned", "page", "mesh_fleet_oldest_unowned_shard_seconds", 15, 14),
    _gauge("NoActiveNode", "page", 'mesh_fleet_alarm{kind="no_active_node"}', 1, 0),
    _gauge("ViewStale", "page", "mesh_fleet_view_silence_seconds", 6, 5),
    _gauge("AuthorityLost", "page", 'mesh_ownership_authority{authority="etcd", instance="n"}', 0, 1),
    _gauge("KeepaliveNearDeadline", "page", 'mesh_ownership_deadline_seconds{instance="n"}', 2.9, 3),
    _gauge("ShardsNotReleased", "page", 'mesh_ownership_waiting_seconds{instance="n"}', 15, 14),
    _gauge("AssignmentTableStale", "page", "mesh_ownership_table_stale", 1, 0),
    _gauge("PlannerRefusing", "page", "mesh_ownership_planner_refusing", 1, 0),
    Case(
        "CapacityHigh",
        "ticket",
        {"mesh_fleet_accounts": "{v}", "mesh_fleet_capacity_sessions": "100"},
        80,
        79,
    ),
    Case(
        "CapacityHigh", "page", {"mesh_fleet_accounts": "{v}", "mesh_fleet_capacity_sessions": "100"}, 95, 94
    ),
    Case(
        "CapacityFull", "page", {"mesh_fleet_accounts": "{v}", "mesh_fleet_capacity_sessions": "100"}, 100, 99
    ),
    Case(
        "EventLoopSlow",
        "ticket",
        {
            'mesh_event_loop_lag_seconds_bucket{job="router", instance="r", le="0.5"}': "+{v}",
            'mesh_event_loop_lag_seconds_bucket{job="router", instance="r", le="1.0"}': "+100",
            'mesh_event_loop_lag_seconds_bucket{job="router", instance="r", le="+Inf"}': "+100",
        },
        98,
        100,
    ),
    Case(
        "FilesRunningOut",
        "page",
        {'process_open_fds{instance="n"}': "{v}", 'process_max_fds{instance="n"}': "100"},
        81,
        80,
    ),
    _gauge("SidecarDown", "page", 'mesh_whatsapp_web_sidecar_up{instance="n"}', 0, 1),
    Case(
        "DatabaseConnectionsHigh",
        "page",
        {"mesh_database_connections": "{v}", "mesh_database_max_connections": "100"},
        81,
        80,
    ),
    _gauge("DatabaseSnapshotOld", "ticket", "mesh_database_xmin_age_transactions", 2_000_001, 2_000_000),
    _gauge("BackupBehind", "ticket", "mesh_database_backup_unfollowed", 1, 0),
    _gauge("BackupBehind", "page", "mesh_database_backup_retained_bytes", 4_294_967_297, 4_294_967_296),
    _gauge("ClockSkewed", "ticket", 'mesh_clock_skew_seconds{job="media", instance="m"}', -6, -5),
    _gauge("DatabaseSnapshotOld", "page", "mesh_database_oldest_transaction_seconds", 61, 60),
    Case(
        "RedisLost",
        "ticket",
        {
            'mesh_limits_uncounted_total{call_class="query"}': "+{v}",
            'mesh_limits_asked_total{outcome="unavailable"}': "+0",
        },
        1,
        0,
    ),
    _gauge(
        "CertificateExpiring",
        "ticket",
        'mesh_tls_certificate_expiry_timestamp_seconds{certificate="server"}',
        1_210_000,
        1_212_000,
    ),
    _gauge(
        "CertificateExpiring",
        "page",
        'mesh_tls_certificate_expiry_timestamp_seconds{certificate="server"}',
        173_000,
        175_000,
    ),
    _gauge("MediaStoreNearlyFull", "ticket", "mesh_media_nearly_full_tenants", 1, 0),
    _events("MediaDamaged", "page", "mesh_media_damaged_downloads_total"),
    Case("MediaLost", "ticket", {'mesh_media_failures_total{failure="object_lost"}': "+{v}"}, 0.2, 0.15),
    _gauge("RetentionLate", "ticket", "mesh_retention_age_seconds", 86_401, 86_400),
    _events("AuditDropped", "ticket", 'mesh_audit_dropped_total{reason="no room"}'),
]
"""All but PartRestarting and PartMissing, whose series change, and AlertingWorks, which fires always."""
