"""The session-node: runs the sessions of the accounts that it owns."""

from __future__ import annotations

import os

# Before gRPC is imported: a tenth of the CPU of a unary call.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_poller_for_python")

from mesh_core.service import run
from mesh_session_node.process import main
from mesh_session_node.settings import SessionNodeSettings

if __name__ == "__main__":
    run("sessionmesh-session-node", SessionNodeSettings, main)
