"""The client for programs without an event loop: the same calls, which wait.

with connect("mesh.example.com:7600", "smk_...") as client:
    message = client.send_text(account_id, "+4915112345678", "Hello")
    for step in client.sessions.Pair(session_pb2.PairRequest(account_id=account_id)):
        ...

Threads may share one client. A process that forks connects after that.
"""

from mesh_client.sync.bulk import SyncBulkSender
from mesh_client.sync.calls import SyncStream
from mesh_client.sync.client import SyncClient, SyncSubscription, connect

__all__ = ["SyncBulkSender", "SyncClient", "SyncStream", "SyncSubscription", "connect"]
