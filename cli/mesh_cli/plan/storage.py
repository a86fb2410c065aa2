"""What a mesh keeps: database, log, backups, files, etcd."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_cli.plan import Demand
from mesh_core.sizing.figures import DATABASE_BYTES, ETCD_BYTES, LOG_BYTES, STORED_SHARE

KEPT_DAYS = 7 + 1
"""The default of MESH_RETENTION_LONGEST_DAYS, and the day that is not over: it goes as a whole."""
FILE_BYTES = 300_000
"""Of a stored file, on average: a choice between a photograph and a film, as nobody's files were measured."""
KEPT_BACKUPS = 7 + 4
"""Of `mesh backup run`: the last of so many days, and of so many weeks."""
LOG_DAYS = 35
"""The log is kept from the oldest of these backups on."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes, and bytes a day of the log."""

    database: int
    log_per_day: int
    backups: int
    """Backups of the database with the log since the oldest, and the files that they refer to."""
    objects: int
    etcd: int


def storage_of(demand: Demand) -> Storage:
    """All of it, once the mesh is as old as what it keeps."""
    database = round(demand.messages_per_day * KEPT_DAYS * DATABASE_BYTES.value)
    log = round(demand.messages_per_day * LOG_BYTES.value)
    files_per_day = demand.media_per_day * FILE_BYTES
    files = files_per_day * (demand.media_days + LOG_DAYS) if files_per_day else 0
    return Storage(
        database=database,
        log_per_day=log,
        backups=round(KEPT_BACKUPS * database * STORED_SHARE.value) + LOG_DAYS * log + files,
        objects=files_per_day * demand.media_days,
        etcd=round(ETCD_BYTES.value),
    )
