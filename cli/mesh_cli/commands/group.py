"""`mesh group`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_cli.commands.output import MAX_PAGE, AsJson, as_dict, person, print_table, show
from mesh_cli.commands.target import EXIT_FAILED, AccountArgument, call
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import group_pb2 as pb

app = typer.Typer(help="Groups of an account, and who is in them.", no_args_is_help=True)
COLUMNS = ("address", "name", "own_role", "member_count", "community")
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The group's address, group:ID.")]
PeopleArgument = Annotated[list[str], typer.Argument(metavar="PERSON...", help="Addresses of people.")]


@app.command()
def ls(context: typer.Context, account_id: AccountArgument, as_json: AsJson = False) -> None:
    """List the groups that an account is in."""

    async def work(client: Client) -> list[pb.Group]:
        found: list[pb.Group] = []
        request = pb.ListGroupsRequest(account_id=account_id, page_size=MAX_PAGE)
        while True:
            page = await client.groups.ListGroups(request)
            found += page.groups
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(call(context, work), COLUMNS, as_json=as_json)


@app.command(name="show")
def show_group(
    context: typer.Context, account_id: AccountArgument, group: GroupArgument, as_json: AsJson = False
) -> None:
    """Ask the network for a group, and show it with its members."""

    async def work(client: Client) -> tuple[pb.Group, list[pb.GroupMember]]:
        asked = pb.FetchGroupRequest(account_id=account_id, group=group)
        found = (await client.groups.FetchGroup(asked)).group
        members: list[pb.GroupMember] = []
        request = pb.ListGroupMembersRequest(account_id=account_id, group=group, page_size=MAX_PAGE)
        while True:
            page = await client.groups.ListGroupMembers(request)
            members += page.members
            request.page_token = page.next_page_token
            if not request.page_token:
                return found, members

    found, members = call(context, work)
    if as_json:
        show([found, *members], (), as_json=True)
        return
    say(json.dumps(as_dict(found), indent=2, ensure_ascii=False))
    print_table(("member", "role"), ((person(each.person), _role(each.role)) for each in members))


@app.command()
def create(
    context: typer.Context,
    account_id: AccountArgument,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    members: PeopleArgument,
    as_json: AsJson = False,
) -> None:
    """Create a group."""

    async def work(client: Client) -> pb.CreateGroupResponse:
        request = pb.CreateGroupRequest(account_id=account_id, name=name, members=members)
        return await client.groups.CreateGroup(request)

    made = call(context, work)
    show([made.group], COLUMNS, as_json=as_json)
    _tell(made.failures)


@app.command()
def change(
    context: typer.Context,
    account_id: AccountArgument,
    group: GroupArgument,
    name: Annotated[str | None, typer.Option(help="What it is called from now on.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is about; empty: nothing.")] = None,
    announce_only: Annotated[
        bool | None, typer.Option("--announce-only/--everyone-writes", help="Who writes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what a group is called, what it is about, or who writes in it."""
    changed = pb.Group(address=group)
    mask = FieldMask()
    if name is not None:
        changed.name = name
        mask.paths.append("name")
    if description is not None:
        changed.description = description
        mask.paths.append("description")
    if announce_only is not None:
        changed.settings.announce_only = announce_only
        mask.paths.append("settings.announce_only")
    if not mask.paths:
        raise typer.BadParameter("nothing to change: give --name, --description or --announce-only")

    async def work(client: Client) -> pb.Group:
        request = pb.UpdateGroupRequest(account_id=account_id, group=changed, update_mask=mask)
        return (await client.groups.UpdateGroup(request)).group

    show([call(context, work)], COLUMNS, as_json=as_json)


def _changing(action: pb.GroupMemberAction.ValueType, explanation: str) -> Callable[..., None]:
    def change_members(
        context: typer.Context, account_id: AccountArgument, group: GroupArgument, members: PeopleArgument
    ) -> None:
        async def work(client: Client) -> pb.ChangeGroupMembersResponse:
            request = pb.ChangeGroupMembersRequest(
                account_id=account_id, group=group, action=action, members=members
            )
            return await client.groups.ChangeGroupMembers(request)

        _tell(call(context, work).failures)

    change_members.__doc__ = explanation
    return change_members


app.command(name="add")(_changing(pb.GROUP_MEMBER_ACTION_ADD, "Add people to a group."))
app.command(name="remove")(_changing(pb.GROUP_MEMBER_ACTION_REMOVE, "Remove people from a group."))
app.command(name="promote")(_changing(pb.GROUP_MEMBER_ACTION_PROMOTE, "Make members administrators."))
app.command(name="demote")(_changing(pb.GROUP_MEMBER_ACTION_DEMOTE, "Make members administrators no more."))


@app.command()
def invite(
    context: typer.Context,
    account_id: AccountArgument,
    group: GroupArgument,
    reset: Annotated[bool, typer.Option("--reset", help="Make a new link; the old one ends.")] = False,
) -> None:
    """Print a group's invite link."""

    async def work(client: Client) -> str:
        if reset:
            renewed = pb.ResetGroupInviteRequest(account_id=account_id, group=group)
            return (await client.groups.ResetGroupInvite(renewed)).url
        request = pb.GetGroupInviteRequest(account_id=account_id, group=group)
        return (await client.groups.GetGroupInvite(request)).url

    say(call(context, work))


@app.command()
def join(
    context: typer.Context,
    account_id: AccountArgument,
    code: Annotated[str, typer.Argument(help="The invite link, or the code in it.")],
    as_json: AsJson = False,
) -> None:
    """Join a group by its invite link, or ask to, where an administrator must consent."""

    async def work(client: Client) -> pb.JoinGroupResponse:
        request = pb.JoinGroupRequest(account_id=account_id, code=code)
        return await client.groups.JoinGroup(request)

    joined = call(context, work)
    if joined.pending and not as_json:
        say("an administrator of the group must consent")
    show([joined.group], COLUMNS, as_json=as_json)


@app.command()
def leave(context: typer.Context, account_id: AccountArgument, group: GroupArgument) -> None:
    """Leave a group."""

    async def work(client: Client) -> pb.LeaveGroupResponse:
        return await client.groups.LeaveGroup(pb.LeaveGroupRequest(account_id=account_id, group=group))

    call(context, work)


def _tell(failures: Collection[pb.GroupMemberFailure]) -> None:
    """Show for whom it failed, and end with exit code 1 where there is somebody."""
    for failure in failures:
        say(f"{failure.member}: {failure.error.message}")
    if failures:
        raise typer.Exit(EXIT_FAILED)


def _role(role: pb.GroupRole.ValueType) -> str:
    return pb.GroupRole.Name(role).removeprefix("GROUP_ROLE_").lower()
