"""Levels of logs that may change while the process runs, of all loggers or of some."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TextIO
from weakref import WeakSet

import structlog

METHODS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""What levels are called, and the methods of loggers that write at them."""


class NamedLogger(structlog.WriteLogger):
    """Writes lines; `threshold` is the least level that it takes."""

    def __init__(self, file: TextIO, name: str, threshold: int) -> None:
        super().__init__(file)
        self.name = name
        self.threshold = threshold


class Levels:
    """The levels of a process's loggers: `least`, unless something else is set."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._set: dict[str, int] = {}
        self._before: dict[str, int] = {}
        """What the loggers of libraries that something is set for had of their own."""
        self._loggers: WeakSet[NamedLogger] = WeakSet()

    def factory(self, file: TextIO) -> Callable[..., NamedLogger]:
        """Makes structlog's loggers, which are named by the first argument of `get_logger`."""

        def make(*names: str) -> NamedLogger:
            name = names[0] if names else ""
            made = NamedLogger(file, name, self.of(name))
            self._loggers.add(made)
            return made

        return make

    def of(self, name: str) -> int:
        """The least level that a logger of this name takes: as set for it, or for the nearest above it."""
        while name:
            if name in self._set:
                return self._set[name]
            name = name.rpartition(".")[0]
        return self._set.get("", self._least)

    def replace(self, levels: Mapping[str, int]) -> None:
        """From now on these, by name, are set and no others; "" is for all loggers of Sessionmesh. A name
        counts for what is below it, and for a library's logger.
        """
        for name in self._before.keys() - levels.keys():
            logging.getLogger(name).setLevel(self._before.pop(name))
        for name, level in levels.items():
            if name:
                library = logging.getLogger(name)
                self._before.setdefault(name, library.level)  # the root's, too: without one it takes all
                library.setLevel(level)
        self._set = dict(levels)
        for logger in self._loggers:
            logger.threshold = self.of(logger.name)


def wrapper_class() -> type[Any]:
    """For `structlog.configure`: loggers that look at their threshold first."""
    base: Any = structlog.make_filtering_bound_logger(logging.DEBUG)
    methods = {name: _method(getattr(base, name), level) for name, level in METHODS.items()}
    return type("LeveledLogger", (base,), methods)


def _method(write: Callable[..., Any], level: int) -> Callable[..., Any]:
    def log(self: Any, event: str, *arguments: Any, **facts: Any) -> Any:
        if level < self._logger.threshold:
            return None
        return write(self, event, *arguments, **facts)

    return log
