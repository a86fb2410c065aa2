"""What the sidecar of linked devices does, as metrics of its node."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

UP = Gauge("mesh_whatsapp_web_sidecar_up", "1 while the sidecar of linked devices runs and answers")
ENDS = Counter(
    "mesh_whatsapp_web_sidecar_ends", "Sidecars that ended, or could not be started, by reason", ["reason"]
)
MEMORY = Gauge("mesh_whatsapp_web_sidecar_resident_bytes", "Memory that the sidecar takes")
CONNECTIONS = Gauge("mesh_whatsapp_web_connections", "Connections that the sidecar holds for this node")
WAITING = Gauge("mesh_whatsapp_web_waiting_bytes", "Bytes that wait to be written to the sidecar")
WRITES = Counter(
    "mesh_whatsapp_web_writes", "Times that the sidecar waited for rows of an account's state to be stored"
)
ROWS = Counter("mesh_whatsapp_web_rows_written", "Rows of accounts' states that the sidecar had stored")
MESSAGES_READ = Counter(
    "mesh_whatsapp_web_messages_read",
    "Messages that recipients asked for again and the sidecar did not remember, by what was found",
    ["outcome"],
)
ROWS_READ = Counter("mesh_whatsapp_web_rows_read", "Rows of accounts' states that the sidecar asked for")
