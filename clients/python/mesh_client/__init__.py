"""The Python client of Sessionmesh.

async with connect("mesh.example.com:7600", "smk_...") as client:
    message = await client.send_text(account_id, "+4915112345678", "Hello")
    async for step in client.pair(account_id):
        ...

It speaks for one API key: credentials, account metadata and request ids are filled in, calls that a retry
cannot harm are retried, calls about an account go straight to its owner where they can, and failures are
raised as `MeshCallError`. `mesh_client.sync` is the same for programs without an event loop.
"""

from mesh_client.bulk import BulkResult, BulkSender
from mesh_client.channels import Tls
from mesh_client.client import Client, connect
from mesh_client.content import message_ref
from mesh_client.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    CursorExpired,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InternalError,
    InvalidArgument,
    MeshCallError,
    NotFound,
    NotServed,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from mesh_client.streams import Stream
from mesh_client.subscriptions import Batch, Subscription
from mesh_client.webhooks import WebhookVerificationError, verify_webhook

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Batch",
    "BulkResult",
    "BulkSender",
    "Cancelled",
    "Client",
    "CursorExpired",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "InternalError",
    "InvalidArgument",
    "MeshCallError",
    "NotFound",
    "NotServed",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Stream",
    "Subscription",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "WebhookVerificationError",
    "connect",
    "message_ref",
    "verify_webhook",
]
