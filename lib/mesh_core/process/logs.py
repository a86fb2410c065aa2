"""Structured logs on stderr: JSON with the current trace, or a console form on a terminal.

What strangers say is in them, and does nothing to the terminal that they are read on.

Modules take `logger = structlog.get_logger(__name__)` and log an event in words with its facts as keywords.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from mesh_core.disk import LinesWhileThereIsRoom
from mesh_core.process.levels import Levels, wrapper_class
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_core.telemetry.redaction import Redaction
from mesh_core.visible_text import visible, visible_json, visible_line


def configure(service: str, settings: TelemetrySettings, redaction: Redaction) -> None:
    """Set up logging for the process, of this project and of the libraries that use the standard one."""
    global _levels  # noqa: PLW0603 - a process has one set of logs
    level = getattr(logging, settings.log_level.upper())
    _levels = Levels(level)
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        _add_trace,
    ]
    # Tracebacks without local variables: those hold keys and message bodies. What must not be shown is taken
    # out before there is a form: between colours nobody knows a number as one.
    rendered: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            redaction,
            structlog.processors.JSONRenderer(serializer=_dump),
        ]
        if as_json
        else [
            structlog.processors.ExceptionRenderer(),
            redaction,
            _show,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=wrapper_class(),
        logger_factory=_levels.factory(cast(TextIO, LinesWhileThereIsRoom(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    # Libraries tell at INFO what only their authors need.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def replace_levels(levels: Mapping[str, int]) -> None:
    """Have loggers take what is of these levels or above, by name, instead of what was set before; "" is for
    all loggers of this project. What nothing is set for is as configured.
    """
    _levels.replace(levels)


def _add_service(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _show(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """An event is one line but for a traceback, so that nobody else's text looks like another event. Facts of
    several lines the console form quotes.
    """
    shown = {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}
    if isinstance(shown.get("event"), str):
        shown["event"] = visible_line(event["event"])
    return shown


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    traceparent = tracing.current_traceparent()
    if traceparent:
        event["trace_id"] = traceparent[3:35]
        event["span_id"] = traceparent[36:52]
    return event


def _dump(event: dict[str, Any], **_options: Any) -> str:
    try:
        line = orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a character, a number of more than 64 bits: nobody's log is to raise
        return json.dumps(event, default=repr, skipkeys=True)
    return visible_json(line)


_levels = Levels(logging.INFO)
