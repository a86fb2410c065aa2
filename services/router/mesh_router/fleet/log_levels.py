"""SetLogLevel: what is asked for, checked, and told to all parts through etcd."""

from __future__ import annotations

import re
import time

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import InvalidField, NotFound
from mesh_core.etcd import Etcd
from mesh_core.ownership.view import OwnerView
from mesh_core.process.log_levels import ALL, KINDS, LevelSet, set_log_level
from sessionmesh.admin.v1 import fleet_pb2

DEFAULT_SECONDS = 600
MOST_SECONDS = 24 * 3600


class LogLevels:
    """Sets levels of logs in the whole cluster."""

    def __init__(self, etcd: Etcd, cluster: str, view: OwnerView) -> None:
        self._etcd = etcd
        self._cluster = cluster
        self._view = view

    async def set(self, request: fleet_pb2.SetLogLevelRequest) -> fleet_pb2.SetLogLevelResponse:
        """Raises `InvalidField`, and `NotFound` for a node that is not registered."""
        level = _LEVELS.get(request.level)
        if level is None:
            raise InvalidField("level", "is required: LOG_LEVEL_DEBUG, _INFO, _WARNING or _ERROR")
        if not request.part_id:
            raise InvalidField("part_id", f"is required: {', '.join((ALL, *KINDS))}, or a node's id")
        if request.part_id not in (ALL, *KINDS) and all(
            node.id != request.part_id for node in self._view.nodes()
        ):
            raise NotFound("node", request.part_id)
        if request.logger and not _LOGGER.fullmatch(request.logger):
            raise InvalidField("logger", "must be the name of a module, such as mesh_core.etcd")
        seconds = request.duration.seconds if request.HasField("duration") else DEFAULT_SECONDS
        if not 1 <= seconds <= MOST_SECONDS:
            raise InvalidField("duration", f"must be between 1 s and {MOST_SECONDS // 3600} hours")
        end = time.time() + seconds
        wanted = LevelSet(part=request.part_id, level=level, end=end, logger=request.logger)
        await set_log_level(self._etcd, self._cluster, wanted, seconds)
        end_time = Timestamp()
        end_time.FromNanoseconds(int(end * 1e9))
        return fleet_pb2.SetLogLevelResponse(end_time=end_time)


_LEVELS: dict[int, str] = {
    fleet_pb2.LOG_LEVEL_DEBUG: "debug",
    fleet_pb2.LOG_LEVEL_INFO: "info",
    fleet_pb2.LOG_LEVEL_WARNING: "warning",
    fleet_pb2.LOG_LEVEL_ERROR: "error",
}
_LOGGER = re.compile(r"[A-Za-z_][\w.-]{0,127}")
