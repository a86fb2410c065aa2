"""The part of SimulatorService that is about groups: made by its operator, changed by people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_core.errors import InvalidField
from mesh_core.validation import phone, text
from mesh_simulator import views
from mesh_simulator.groups.groups import new_group_id
from mesh_simulator.resolving import Resolving, phones
from sessionmesh.simulator.v1 import simulator_pb2 as api

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]


class GroupsService(Resolving):
    """Groups, and who is in them."""

    async def CreateNetworkGroup(
        self, request: api.CreateNetworkGroupRequest, context: Context
    ) -> api.CreateNetworkGroupResponse:
        if not request.members:
            raise InvalidField("members", "is required")
        members = dict.fromkeys(phones("members", request.members), False)
        for at, number in enumerate(request.admins or request.members[:1]):
            if number not in members:
                raise InvalidField(f"admins[{at}]", "must be one of the members")
            members[number] = True
        subject = text("subject", request.subject)
        owner = next(number for number, admin in members.items() if admin)
        group = self._directory.create_group(new_group_id(), subject, members, owner)
        self._network.groups.made(group)
        self._network.flush()
        return api.CreateNetworkGroupResponse(group=views.group_view(group))

    async def ChangeNetworkGroupMembers(
        self, request: api.ChangeNetworkGroupMembersRequest, context: Context
    ) -> api.ChangeNetworkGroupMembersResponse:
        group = self._group("group", request.group)
        add, remove = phones("add", request.add), phones("remove", request.remove)
        self._network.groups.put(group, add, remove)
        self._network.flush()
        return api.ChangeNetworkGroupMembersResponse(group=views.group_view(group))

    async def ActInGroup(self, request: api.ActInGroupRequest, context: Context) -> api.ActInGroupResponse:
        number = phone("phone", request.phone)
        if not self._directory.is_registered(number):
            raise InvalidField("phone", "nobody on the network has this number")
        answer = self._network.group_queries.answer(number, request.query)
        self._network.flush()
        return api.ActInGroupResponse(answer=answer)
