"""What every Sessionmesh service is built on."""

import os

# Both must be set before grpc is imported. A fifth of the CPU of a unary call goes into this poller's thread
# hand-offs. The name is not an API, so a test checks that the pinned grpc still knows it.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_poller_for_python")
# uvloop forks to start a program, and grpc's handlers of forks may wait for ever in the child before it
# becomes that program, while the event loop waits for the child. Nobody here uses grpc after a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
