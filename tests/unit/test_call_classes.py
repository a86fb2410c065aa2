"""What calls are counted as: every public method says it, in its proto."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from mesh_router.proxy.routes import SERVICES
from sessionmesh.v1 import authorization_pb2 as proto

METHODS: list[MethodDescriptor] = [
    method for service in SERVICES for method in descriptor_pool.Default().FindServiceByName(service).methods
]
READS = ("Get", "List", "Watch", "Subscribe", "Download")


def call_class(method: MethodDescriptor) -> int:
    return int(method.GetOptions().Extensions[proto.call_class])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_every_public_method_has_a_class(method: MethodDescriptor) -> None:
    assert call_class(method) in {
        proto.CALL_CLASS_MESSAGE,
        proto.CALL_CLASS_INSTANCE_OPERATION,
        proto.CALL_CLASS_QUERY,
    }


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_what_reads_is_a_query_and_nothing_else_that_a_reading_key_may_do(method: MethodDescriptor) -> None:
    reads = method.name.startswith(READS)
    may_be_read = method.GetOptions().Extensions[proto.scope] == proto.SCOPE_READ
    assert not (reads or may_be_read) or call_class(method) == proto.CALL_CLASS_QUERY
