"""What every Sessionmesh service is built on."""

import os

# A fifth of the CPU of a unary call goes into this poller's thread hand-offs. Must be set before grpc is
# imported; the name is not an API, so a test checks that the pinned grpc still knows it.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_poller_for_python")
