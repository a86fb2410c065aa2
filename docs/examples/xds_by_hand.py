"""Straight to an account's owner with nothing but generated stubs: python xds_by_hand.py acc_...

GRPC_XDS_BOOTSTRAP names the file that `mesh xds-bootstrap > bootstrap.json` has written.
"""

import os
import sys

import grpc

from sessionmesh.v1 import session_pb2, session_pb2_grpc

account_id = sys.argv[1]
with grpc.insecure_channel("xds:///sessionmesh") as channel:
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    found = sessions.GetSession(
        session_pb2.GetSessionRequest(account_id=account_id),
        metadata=(
            ("authorization", f"Bearer {os.environ['MESH_API_KEY']}"),
            ("x-account-id", account_id),  # what gRPC finds the owner by
        ),
        timeout=10,
    )
    print(session_pb2.SessionState.Name(found.session.state), "on", found.session.node_id)
