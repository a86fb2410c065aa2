"""A full disk is an error of its own, and stops no process that logs."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from mesh_core.disk import DiskFull, naming_full_disk

LOGGER = """
import os, structlog
from mesh_core.process.logs import configure
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry.redaction import Redaction

os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
configure("a-service", TelemetrySettings(log_format="json"), Redaction())
structlog.get_logger().error("there is no room for this")
print("goes on", flush=True)
"""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_error_that_names_the_folder(number: int) -> None:
    with pytest.raises(DiskFull, match="the disk of /data is full"), naming_full_disk("/data"):
        raise OSError(number, "No space left on device")


def test_another_error_passes_as_it_is() -> None:
    with pytest.raises(PermissionError), naming_full_disk("/data"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_service_whose_log_has_no_room_goes_on() -> None:
    ended = subprocess.run([sys.executable, "-c", LOGGER], check=False, capture_output=True, text=True)
    assert ended.stdout == "goes on\n"
