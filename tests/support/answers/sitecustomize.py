"""Records what every server of a test run answered: Python imports this file at the start of each process.

With `MESH_TEST_API_LOG` set (by `plugin`), the server chassis of the process is given a recorder once it is
imported. It appends a line to a file of that folder for every answer, at once, so that a killed process has
lost none:

    MONOTONIC_NANOSECONDS /SERVICE/METHOD CODE REASON MODULE

`MODULE` is where the function stands that served the call: a test's own stand-in is told from a real server
by it, also of a call that was refused before, such as for a key that nobody knows. A stream has answered OK
with its first frame; how it failed later is a line of its own, that its caller left it is none. All processes
of a machine read the same monotonic clock.

Only the standard library may be imported here at the top: processes that serve nothing start with it too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from time import monotonic_ns
from typing import Any

FOLDER_VARIABLE = "MESH_TEST_API_LOG"
CHASSIS = "mesh_core.rpc.server.methods"
NO_REASON = "-"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def install() -> None:
    """Record what this process answers, from the moment that it imports the chassis."""
    if CHASSIS in sys.modules:
        record(sys.modules[CHASSIS])
    else:
        sys.meta_path.insert(0, _AfterImport())


def record(chassis: Any) -> None:
    """Put a recorder around every handler that `chassis` wraps from now on."""
    folder = os.environ[FOLDER_VARIABLE]
    os.makedirs(folder, exist_ok=True)
    place = os.path.join(folder, f"{lane()}-{os.getpid()}.answers")
    log = Log(os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    wrap, reading_late = chassis.wrap, chassis.reading_late
    modules: dict[str, str] = {}

    def recording_wrap(handler: Any, method: Any, gate: Any) -> Any:
        kind = kind_of(handler)
        module = modules[method.path] = getattr(handler, kind).__module__
        wrapped = wrap(handler, method, gate)
        serve = log.watching(getattr(wrapped, kind), method, module)
        return wrapped._replace(**{kind: serve})

    def recording_late(handler: Any, method: Any, gate: Any) -> Any:
        kind = kind_of(handler)
        before = BeforeHandler(log, method, modules[method.path])
        late = reading_late(handler._replace(**{kind: before.reached(getattr(handler, kind))}), method, gate)
        return late._replace(stream_stream=before.watching(late.stream_stream))

    chassis.wrap, chassis.reading_late = recording_wrap, recording_late


def kind_of(handler: Any) -> str:
    """Which of `KINDS` it serves."""
    return next(kind for kind in KINDS if getattr(handler, kind) is not None)


def lane() -> str:
    """Which of the test run's processes started this one: test lanes run side by side."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


class Log:
    """The file of one process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def watching(self, serve: Any, method: Any, module: str) -> Any:
        """`serve`, with a line for each of its answers."""
        from asyncio import CancelledError

        write, descriptor = os.write, self._descriptor
        ok = f" {method.path} OK {NO_REASON} {module}\n".encode()

        def answered() -> None:
            write(descriptor, b"%d%b" % (monotonic_ns(), ok))

        def failed(error: BaseException, context: Any) -> None:
            self.failed(error, context, method, module)

        async def once(request: Any, context: Any) -> Any:
            try:
                response = await serve(request, context)
            except BaseException as error:
                failed(error, context)
                raise
            write(descriptor, b"%d%b" % (monotonic_ns(), ok))
            return response

        async def frames(request: Any, context: Any) -> None:
            watched = FirstFrame(context, answered)
            try:
                await serve(request, watched)
            except BaseException as error:
                if not (watched.begun and isinstance(error, CancelledError)):
                    failed(error, context)
                raise
            if not watched.begun:
                answered()

        return frames if method.streams else once

    def failed(self, error: BaseException, context: Any, method: Any, module: str) -> None:
        """A line for a call that was refused, or has failed."""
        code, reason = outcome(error, context)
        os.write(self._descriptor, f"{monotonic_ns()} {method.path} {code} {reason} {module}\n".encode())


class BeforeHandler:
    """What becomes of a method's calls before its handler has them, which is on record once it has."""

    def __init__(self, log: Log, method: Any, module: str) -> None:
        self._log = log
        self._method = method
        self._module = module
        self._reached: set[Any] = set()

    def reached(self, serve: Any) -> Any:
        """`serve`, the handler."""
        from asyncio import current_task

        async def reaching(request: Any, context: Any) -> Any:
            self._reached.add(current_task())
            return await serve(request, context)

        return reaching

    def watching(self, serve: Any) -> Any:
        """`serve`, that calls the handler or refuses, with a line for each refusal."""
        from asyncio import current_task

        from grpc.aio import AbortError

        async def watched(requests: Any, context: Any) -> None:
            try:
                await serve(requests, context)
            except AbortError as error:
                if current_task() not in self._reached:
                    self._log.failed(error, context, self._method, self._module)
                raise
            finally:
                self._reached.discard(current_task())

        return watched


class FirstFrame:
    """The context of a call that answers with a stream; `answered` is called at its first frame."""

    def __init__(self, context: Any, answered: Any) -> None:
        self._context = context
        self._answered = answered
        self.begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, response: Any) -> None:
        await self._context.write(response)
        if not self.begun:
            self.begun = True
            self._answered()


def outcome(error: BaseException, context: Any) -> tuple[str, str]:
    """Code and reason of a call that has failed, or that was cancelled by its caller or by a drain."""
    from google.rpc import error_details_pb2, status_pb2
    from grpc import StatusCode
    from grpc.aio import AbortError

    if not isinstance(error, AbortError):
        return "CANCELLED", NO_REASON
    code = context.code()
    name = next(known.name for known in StatusCode if code in (known, known.value[0]))
    info = error_details_pb2.ErrorInfo()
    for key, value in context.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                if packed.Unpack(info):
                    return name, info.reason
    return name, NO_REASON


class _AfterImport:
    """Finds the chassis as Python would, and gives it its recorder when its code has run."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != CHASSIS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_record(module: Any) -> None:
            run(module)
            record(module)

        spec.loader.exec_module = run_and_record  # type: ignore[method-assign]
        return spec


if __name__ == "sitecustomize" and FOLDER_VARIABLE in os.environ:
    install()
