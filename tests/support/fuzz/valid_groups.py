"""A valid request for each method of GroupService and CommunityService, about a group of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.fuzz.world import Fields, World, new_phone, unique

Make = Callable[[World], Awaitable[Fields]]


async def _group(world: World, **fields: Any) -> Fields:
    """A group of the account and somebody."""
    account = await world.connected()
    made = await world(
        "CreateGroup", **account, **{"name": unique(), "members": [f"phone:{new_phone()}"], **fields}
    )
    return account | {"group": made.group.address}


def _of_group(**more: Any) -> Make:
    async def make(world: World) -> Fields:
        return await _group(world) | more

    return make


def _of_account(**more: Any) -> Make:
    async def make(world: World) -> Fields:
        return await world.connected() | more

    return make


async def _new(world: World) -> Fields:
    return await world.connected() | {
        "name": unique(),
        "description": "About",
        "members": [f"phone:{new_phone()}"],
        "settings": {"locked": True, "member_add_mode": 2, "disappear_after": {"seconds": 86_400}},
    }


async def _update(world: World) -> Fields:
    made = await _group(world)
    return {
        "account_id": made["account_id"],
        "group": {"address": made["group"], "name": unique(), "settings": {"announce_only": True}},
        "update_mask": {"paths": ["name", "settings.announce_only"]},
    }


async def _members(world: World) -> Fields:
    return await _group(world) | {"action": 1, "members": [f"phone:{new_phone()}"]}


async def _invite(world: World) -> Fields:
    made = await _group(world)
    code = (await world("GetGroupInvite", **made)).code
    return {"account_id": made["account_id"], "code": code}


async def _asked(world: World) -> Fields:
    made = await _group(world, settings={"join_approval": True})
    code, phone = (await world("GetGroupInvite", **made)).code, new_phone()
    await world("ActInGroup", phone=phone, query={"join_group": {"code": code}})
    return made | {"requesters": [f"phone:{phone}"], "approve": True}


async def _community(world: World) -> Fields:
    account = await world.connected()
    made = await world("CreateCommunity", **account, name=unique())
    return account | {"community": made.community.address}


async def _linked(world: World) -> Fields:
    community, made = await _community(world), await _group(world)
    return community | {"groups": [made["group"]]}


async def _somebody(world: World) -> Fields:
    return {"phone": new_phone(), "query": {"create_group": {"subject": "Fuzz"}}}


PREPARED: dict[str, Make] = {
    "CommunityService.CreateCommunity": _of_account(name="Town", description="All", join_approval=True),
    "CommunityService.DeactivateCommunity": _community,
    "CommunityService.GetCommunity": _community,
    "CommunityService.LeaveCommunity": _community,
    "CommunityService.LinkGroups": _linked,
    "CommunityService.ListCommunities": _of_account(page_size=10),
    "CommunityService.ListCommunityGroups": _community,
    "CommunityService.UnlinkGroups": _linked,
    "GroupService.AnswerJoinRequests": _asked,
    "GroupService.ChangeGroupMembers": _members,
    "GroupService.CreateGroup": _new,
    "GroupService.FetchGroup": _of_group(),
    "GroupService.GetGroup": _of_group(),
    "GroupService.GetGroupInvite": _of_group(),
    "GroupService.GetGroupPicture": _of_group(preview=True),
    "GroupService.JoinGroup": _invite,
    "GroupService.LeaveGroup": _of_group(),
    "GroupService.ListCommonGroups": _of_account(address="phone:+4915112345678", page_size=10),
    "GroupService.ListGroupMembers": _of_group(page_size=10),
    "GroupService.ListGroups": _of_account(page_size=10),
    "GroupService.ListJoinRequests": _of_group(page_size=10),
    "GroupService.PreviewGroupInvite": _invite,
    "GroupService.ResetGroupInvite": _of_group(),
    "GroupService.UpdateGroup": _update,
    "SimulatorService.ActInGroup": _somebody,
}
