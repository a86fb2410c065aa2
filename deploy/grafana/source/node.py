"""Node: is one process well, and the machine under it?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Query, quantile

NODE = Dashboard(
    "node",
    "Is a process well, does it hear both authorities, and has its machine room?",
    [
        Graph(
            "Time to the deadline",
            "For how long may the node run its sessions if it hears nothing any more? 5 to 6 s are healthy.",
            "s",
            [Query('mesh_ownership_deadline_seconds{instance=~"$instance"} < Inf', "{{instance}}")],
        ),
        Graph(
            "Authorities heard",
            "Does the node hear etcd and Postgres? 1: yes.",
            "short",
            [Query('mesh_ownership_authority{instance=~"$instance"}', "{{instance}} {{authority}}")],
        ),
        Graph(
            "Beats, 99th percentile",
            "How long do etcd and Postgres take to answer a beat?",
            "s",
            [
                Query(
                    quantile(
                        0.99,
                        "mesh_ownership_beat_duration_seconds",
                        by="authority",
                        where='instance=~"$instance"',
                    ),
                    "{{authority}}",
                )
            ],
        ),
        Graph(
            "Event loop's lag",
            "How late does the process come to its work?",
            "s",
            [
                Query(
                    quantile(
                        0.99, "mesh_event_loop_lag_seconds", by="job, instance", where='instance=~"$instance"'
                    ),
                    "{{job}} {{instance}}",
                )
            ],
        ),
        Graph(
            "Processor",
            "Which process needs the processors? 100 % is one core.",
            "percentunit",
            [
                Query(
                    'rate(process_cpu_seconds_total{instance=~"$instance"}[$__rate_interval])',
                    "{{job}} {{instance}}",
                )
            ],
        ),
        Graph(
            "Memory",
            "Which process needs the memory, and does it grow?",
            "bytes",
            [Query('process_resident_memory_bytes{instance=~"$instance"}', "{{job}} {{instance}}")],
        ),
        Graph(
            "Open files",
            "How near is the process to the end of its files?",
            "percentunit",
            [
                Query(
                    'process_open_fds{instance=~"$instance"} / process_max_fds{instance=~"$instance"}',
                    "{{job}} {{instance}}",
                )
            ],
        ),
        Graph(
            "Sessions",
            "How many sessions has the node?",
            "short",
            [Query('sum by (instance) (mesh_sessions{instance=~"$instance"})', "{{instance}}")],
        ),
        Graph(
            "Started",
            "When was the process started last?",
            "s",
            [Query('time() - process_start_time_seconds{instance=~"$instance"}', "{{job}} {{instance}}")],
        ),
        Graph(
            "Machines: processors",
            "Is a machine too busy?",
            "percentunit",
            [Query("machine:cpu_used:ratio_5m", "{{instance}}")],
        ),
        Graph(
            "Machines: memory",
            "Is a machine's memory full?",
            "percentunit",
            [Query("machine:memory_used:ratio", "{{instance}}")],
        ),
        Graph(
            "Machines: disks",
            "Which disk fills?",
            "percentunit",
            [Query("machine:disk_used:ratio", "{{instance}} {{mountpoint}}")],
        ),
    ],
    per_instance='up{job=~"router|session-node|media|webhook"}',
)
