"""The same without an event loop: python send_sync.py acc_... +4915112345678"""

import os
import sys

from mesh_client.sync import connect
from sessionmesh.v1 import message_pb2

account_id, to = sys.argv[1:]
with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
    message = client.send_text(account_id, to, "Hello", wait_for=message_pb2.WAIT_FOR_SENT)
    print(message.id, message_pb2.MessageStatus.Name(message.status))
