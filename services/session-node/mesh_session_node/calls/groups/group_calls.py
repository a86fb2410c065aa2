"""What the calls about groups and communities have in common."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from mesh_core.errors import MeshError, NotFound
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, in_time
from mesh_session_node.calls.pictures import jpeg_of
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.groups import GroupInfo
from mesh_session_node.drivers.interface.pictures import MAX_PICTURE_BYTES
from mesh_session_node.inbound.groups import GroupBook
from mesh_session_node.journal import Row
from mesh_session_node.store.pictures import Pictures
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord


class GroupCalls:
    """The steps of such calls."""

    def __init__(self, calls: AccountCalls, book: GroupBook, pictures: Pictures) -> None:
        self.calls = calls
        self.book = book
        self.pictures = pictures

    async def record(self, session: Session, group: str) -> GroupRecord:
        """What is stored of a group. Raises `NotFound`."""
        record = await self.book.record(session.context, group)
        if record is None:
            raise NotFound("group", group)
        return record

    async def write(self, session: Session, rows: Sequence[Row]) -> None:
        """Store rows. Raises as `AccountCalls.write` and `in_time` do."""
        if rows:
            await in_time(self.calls.write(session, *rows))

    async def fetch(self, session: Session, group: str) -> GroupInfo:
        """A group as the network has it, with its members. Raises as `AccountCalls.act` does; where the
        account is not in it any more, that is stored.
        """
        try:
            return await self.calls.act(
                session, Capability.GROUPS, lambda link: link.get_group(group), about=group
            )
        except MeshError as error:
            before = await self.book.record(session.context, group)
            if is_outside(error) and before is not None and before.group.own_role:
                await self.write(session, (await self.book.lost(session.context, before)).rows)
            raise

    async def stored(self, session: Session, group: str) -> GroupRecord:
        """What is stored of a group, which the network is asked for where nothing is. It holds its turn."""
        record = await self.book.record(session.context, group)
        if record is not None:
            return record
        told = await self.book.told(session.context, await self.fetch(session, group), event=False)
        await self.write(session, told.rows)
        return told.record

    async def read_picture(self, session: Session, field: str, media_id: str) -> bytes:
        """The bytes of a picture that a group is to show; none for an empty id."""
        return await jpeg_of(self.pictures, session, field, media_id, MAX_PICTURE_BYTES)


def is_outside(error: MeshError) -> bool:
    """Whether the network says that the account is not in the group, or that there is none."""
    return isinstance(error, NotFound) or error.reason == "NOT_A_MEMBER"


def token_of(session: Session, request_id: str) -> str:
    """What names the making of something at the network: the same for the same request."""
    seed = session.context.ref.uuid.bytes + request_id.encode()
    return blake2b(seed, digest_size=16).hexdigest().upper()
