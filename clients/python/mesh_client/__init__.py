"""The Python client of Sessionmesh.

async with connect("mesh.example.com:7600", "smk_...") as client:
    message = await client.send_text(account_id, "+4915112345678", "Hello")
    async for step in client.sessions.Pair(session_pb2.PairRequest(account_id=account_id)):
        ...

It speaks for one API key: credentials, account metadata and request ids are filled in, calls that a retry
cannot harm are retried, and failures are raised as `MeshCallError`.
"""

from mesh_client.client import Client, connect
from mesh_client.errors import FieldViolation, MeshCallError
from mesh_client.transport import Tls

__all__ = ["Client", "FieldViolation", "MeshCallError", "Tls", "connect"]
