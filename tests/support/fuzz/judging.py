"""Whether an answer is one that a caller can work with, whatever was asked."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import Descriptor
from grpc import StatusCode

from tests.support.api_methods import request_types
from tests.support.fuzz.calls import Answer
from tests.support.fuzz.places import is_map

DEFECTS = (StatusCode.INTERNAL, StatusCode.UNKNOWN)


def fault_of(answer: Answer, request: Descriptor, *, parses: bool) -> str:
    """What is wrong with an answer; "" for one that is OK or a typed error.

    `parses` is False for a request with text that is not UTF-8: then no field can be named.
    """
    if answer.ok:
        return "" if parses or _has_items(request) else "answered OK to what cannot be parsed"
    if answer.code in DEFECTS:
        return f"{answer.code.name}: {answer.message}"
    if not answer.reason:
        return f"{answer.code.name} without an ErrorInfo: {answer.message}"
    if answer.code is not StatusCode.INVALID_ARGUMENT or not parses:
        return ""
    if not answer.fields:
        return f"INVALID_ARGUMENT that names no field: {answer.message}"
    unknown = [field for field in answer.fields if not exists(field, request)]
    return f"names {unknown}, which {request.name} does not have: {answer.message}" if unknown else ""


def exists(path: str, request: Descriptor) -> bool:
    """Whether `request` has a field, or a oneof, at a path such as `messages[0].labels[key].x`."""
    here: Any = request
    field: Any = None
    for step in _steps(path):
        if step.startswith("["):
            if field is None or not field.is_repeated:
                return False
            if is_map(field):
                here = field.message_type.fields_by_name["value"].message_type
            continue
        if here is None:
            return False
        if step in here.oneofs_by_name:
            here, field = None, None
            continue
        field = here.fields_by_name.get(step)
        if field is None:
            return False
        here = field.message_type
    return True


def _has_items(request: Descriptor) -> bool:
    kinds = [field.message_type for field in request.fields]
    return any(kind is not None and kind.full_name in request_types() for kind in kinds)


def _steps(path: str) -> list[str]:
    """The names and the subscripts of a path; a key in a subscript may have any characters."""
    return re.findall(r"\[.*?\](?=[.\[]|$)|[^.\[\]]+", path, re.DOTALL)
