"""The digest that tells a repeated request from another one with the same request id."""

from __future__ import annotations

from mesh_core.database.requests import payload_digest, request_digest
from sessionmesh.v1 import account_pb2


def request(request_id: str = "one", **labels: str) -> account_pb2.CreateAccountRequest:
    return account_pb2.CreateAccountRequest(request_id=request_id, account=account_pb2.Account(labels=labels))


def test_the_request_id_itself_does_not_count() -> None:
    assert request_digest(request("one", a="1")) == request_digest(request("two", a="1"))


def test_every_other_field_counts() -> None:
    assert request_digest(request(a="1")) != request_digest(request(a="2"))


def test_the_order_of_labels_does_not_count() -> None:
    assert request_digest(request(a="1", b="2")) == request_digest(request(b="2", a="1"))


def test_content_that_came_apart_from_the_message_counts() -> None:
    assert request_digest(request(), b"one") != request_digest(request(), b"other")


def test_the_request_is_left_as_it_was() -> None:
    given = request("one")
    request_digest(given)
    assert given.request_id == "one"


def test_it_is_the_digest_of_the_serialized_rest() -> None:
    """It is stored: another release must get the same."""
    assert request_digest(request("one")) == payload_digest(request("").SerializeToString())
    assert len(request_digest(request())) == 16
