"""ServerService: what this mesh is and can do, read from the constants and drivers that decide it."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from mesh_core import addresses, paging, validation
from mesh_core.database.requests import RETENTION
from mesh_core.ids import Prefix, encode
from mesh_core.process.service import service_version
from mesh_core.rpc.auth import current_identity
from mesh_core.settings import ClusterSettings
from mesh_session_node.calls.account_call import Context
from mesh_session_node.calls.messages import content_parts, content_validation, send_validation
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.registry import Drivers
from sessionmesh.v1 import account_pb2, server_pb2_grpc
from sessionmesh.v1 import server_pb2 as pb

API_EDITION = 2


class ServerService(server_pb2_grpc.ServerServiceServicer):
    """Any node can answer: all of a cluster run with the same settings."""

    def __init__(self, drivers: Drivers, cluster: ClusterSettings, max_message_bytes: int) -> None:
        self._drivers = drivers
        self._info = pb.GetServerInfoResponse(
            version=service_version(),
            api_edition=API_EDITION,
            cluster=cluster.name,
            limits=_limits(max_message_bytes),
            default_driver=account_pb2.Driver.Value(f"DRIVER_{cluster.default_driver.upper()}"),
        )

    async def GetServerInfo(
        self, _request: pb.GetServerInfoRequest, _context: Context
    ) -> pb.GetServerInfoResponse:
        response = pb.GetServerInfoResponse()
        response.CopyFrom(self._info)
        response.drivers.extend(map(_capabilities, self._drivers))
        if (tenant := current_identity().tenant_id) is not None:
            response.tenant_id = encode(Prefix.TENANT, tenant)
        return response


def _limits(max_message_bytes: int) -> pb.Limits:
    return pb.Limits(
        page_items=paging.MAX_SIZE,
        page_bytes=paging.MAX_BYTES,
        grpc_message_bytes=max_message_bytes,
        batch_items=validation.MAX_BATCH,
        content_bytes=content_validation.MAX_CONTENT,
        text_bytes=content_validation.MAX_TEXT,
        caption_characters=content_parts.MAX_CAPTION,
        message_labels=send_validation.MAX_LABELS,
        label_key_characters=validation.MAX_LABEL_KEY,
        label_value_characters=validation.MAX_LABEL_VALUE,
        request_id_characters=validation.MAX_REQUEST_ID,
        external_id_characters=validation.MAX_NAME,
        address_characters=addresses.MAX_ADDRESS,
        request_id_retention=Duration(seconds=int(RETENTION.total_seconds())),
        schedule_ahead=Duration(seconds=send_validation.MAX_AHEAD),
    )


def _capabilities(driver: Driver) -> pb.DriverCapabilities:
    return pb.DriverCapabilities(
        driver=account_pb2.Driver.Value(f"DRIVER_{driver.name.upper()}"),
        content_kinds=sorted(driver.content_kinds),
        pairing_methods=driver.pairing_methods,
        # A link sends under the id that was fixed before, whatever the driver.
        client_message_ids=True,
        program=driver.program,
    )
