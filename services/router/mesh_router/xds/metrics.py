"""The xDS control plane's metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

STREAMS = Gauge("mesh_xds_streams", "Clients connected to the xDS control plane")
PUSHES = Counter("mesh_xds_pushes_total", "Responses sent to xDS clients", ["type"])
NACKS = Counter("mesh_xds_nacks_total", "Responses that xDS clients refused", ["type"])
LOOKUPS = Counter("mesh_xds_lookups_total", "Route lookups by what they were answered", ["answer"])
