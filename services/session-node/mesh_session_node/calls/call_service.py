"""CallService: calls to the account are rejected, or ring until they end."""

from __future__ import annotations

from mesh_core import addresses
from mesh_core.validation import text
from mesh_session_node.calls.account_call import AccountCalls, Context
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.inbound.calls import Calls
from sessionmesh.v1 import call_pb2 as pb
from sessionmesh.v1 import call_pb2_grpc

MAX_CALL_ID = 128
"""Characters of the network's id of a call."""


class CallService(call_pb2_grpc.CallServiceServicer):
    """What is not answered otherwise rings on."""

    def __init__(self, calls: AccountCalls, ringing: Calls) -> None:
        self._calls = calls
        self._ringing = ringing

    async def RejectCall(self, request: pb.RejectCallRequest, context: Context) -> pb.RejectCallResponse:
        session = await self._calls.session(request.account_id, context)
        call_id = text("call_id", request.call_id, MAX_CALL_ID)
        caller = addresses.person("caller", request.caller)
        await self._calls.act(
            session, Capability.REJECT_CALL, lambda link: link.reject_call(call_id, caller), about=call_id
        )
        rows = await self._ringing.rejected(session.context, call_id)
        if rows:
            await self._calls.write(session, *rows)
        return pb.RejectCallResponse()
