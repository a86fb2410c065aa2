"""What callers may cost who have shown no key, or none that is known yet.

gRPC reads the one request of a call before it asks the handler, up to eight megabytes: a hundred calls that
nobody may make would take 800. So calls of strangers are served as streams, whose body is read only when it
is asked for: once the key was found good or, for a method that asks for no key, in turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self, TypeVar

from mesh_core.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from mesh_core.rpc.server.parsing import Context, Serve

METADATA_BYTES = 4 * 1024
"""Most metadata of a call that asks for no key, counted as `options.METADATA_BYTES` is. A call holds it to
its end, and HTTP/2 repeats four kilobytes in one byte: thousands of streams would have all that a call may.
"""
STREAMS_OF_ADDRESS = 6_000
STREAMS_IN_ALL = 12_000
"""Open streams of methods that ask for no key, as xDS clients have: of one address, and of all of them."""
FIRST_FRAME_SECONDS = 30.0
"""How long such a stream may take to say what it wants."""
BODIES_OF_ADDRESS = 8
BODIES_IN_ALL = 32
"""Bodies of unary calls without a key that are read at the same time: of one address, and of all of them."""
WAITING_OF_ADDRESS = 1_000
WAITING_IN_ALL = 4_000
"""Such calls that wait for their turn, or have it; up to 64 KiB of each have come by then."""
TURN_SECONDS = 5.0
"""How long each may wait for its turn. The last to come has the next one: its body may well be there, while
those before it are of somebody who sends none.
"""
BODY_SECONDS = 1.0
"""How long the body may then take to come: as a rule it came with the call."""
FRAMES_OF_ADDRESS = 4
FRAMES_IN_ALL = 16
"""Frames of brief streams that are read at the same time."""
FRAME_SECONDS = 10.0
"""How long each of those may take to come."""

TooMany = Callable[[], ResourceExhausted]
Handler = TypeVar("Handler", bound=Callable[..., Any])


def brief(handler: Handler) -> Handler:
    """Mark a stream that asks for no key and whose callers ask and go: each of its frames is read in turn."""
    handler.__dict__["brief"] = True
    return handler


class Strangers:
    """The calls of one server that ask for no key; `address_of` tells where one comes from."""

    def __init__(self, address_of: Callable[[Context], str]) -> None:
        self._address_of = address_of
        self._streams = Places(STREAMS_OF_ADDRESS, STREAMS_IN_ALL, _too_many)
        self._bodies = Readers(BODIES_OF_ADDRESS, BODIES_IN_ALL, _too_many)
        self._frames = Readers(FRAMES_OF_ADDRESS, FRAMES_IN_ALL, _too_many)

    def streaming(self, body: Serve, *, takes_stream: bool, brief: bool = False) -> Serve:
        """`body`, the handler of a stream, that raises `ResourceExhausted` where too many are open, and
        `DeadlineExceeded` when nothing is asked for.
        """

        async def serve(request: Any, context: Context) -> Any:
            _check_metadata(context)
            address = self._address_of(context)
            if brief:
                request = _Brief(request, partial(self._frames.read, address=address, seconds=FRAME_SECONDS))
            elif takes_stream:
                request = _BeginningSoon(request)
            with self._streams.taken(address):
                return await body(request, context)

        return serve

    async def read(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """The body of a unary call. Raises `ResourceExhausted` when there is no turn for it, and
        `DeadlineExceeded` when it does not come.
        """
        _check_metadata(context)
        return there(await self._bodies.read(requests, self._address_of(context), BODY_SECONDS))


def there(body: bytes | None) -> bytes:
    """The request of a call; raises `InvalidArgument` when it has none."""
    if body is None:
        raise InvalidArgument("the call has no request", "INVALID_FIELD")
    return body


class Places:
    """Counts, by address (or another name of who calls) and in all. `too_many` is what is raised beyond.

    An address gets one more while it has fewer than are free: one alone half of all, two a third each, and
    however many there are, each that comes finds as many free as they have.
    """

    def __init__(self, of_address: int, in_all: int, too_many: TooMany) -> None:
        self._of_address = of_address
        self._in_all = in_all
        self._too_many = too_many
        self._taken: Counter[Hashable] = Counter()
        self._all = 0

    def of(self, address: Hashable) -> int:
        """How many are taken."""
        return self._taken[address]

    @contextmanager
    def taken(self, address: Hashable) -> Iterator[None]:
        """Take one; `ResourceExhausted` when there is none."""
        if self._taken[address] >= min(self._of_address, self._in_all - self._all):
            raise self._too_many()
        self._all += 1
        self._taken[address] += 1
        try:
            yield
        finally:
            self._all -= 1
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]


class Readers:
    """Reads one frame after the other of each address (or another name), and of all of them together, in
    turns. `too_many` is what is raised when there is none.
    """

    def __init__(self, of_address: int, in_all: int, too_many: TooMany) -> None:
        self._places = Places(WAITING_OF_ADDRESS, WAITING_IN_ALL, too_many)
        self._of_address = of_address
        self._too_many = too_many
        self._turns_of: dict[Hashable, _Turns] = {}
        self._turns = _Turns(in_all, too_many)

    async def read(self, requests: AsyncIterator[bytes], address: Hashable, seconds: float) -> bytes | None:
        """The next frame, which has so long to come; None at the end."""
        with self._places.taken(address):
            own = self._turns_of.setdefault(address, _Turns(self._of_address, self._too_many))
            try:
                # Its address' first: who waits for that holds nobody else's.
                async with own.taken(), self._turns.taken(), asyncio.timeout(seconds):
                    return await anext(requests, None)
            except TimeoutError:
                raise _late() from None
            finally:
                if self._places.of(address) == 1:
                    self._turns_of.pop(address, None)


class _Brief:
    """A request stream each frame of which is read by `read`."""

    def __init__(
        self,
        requests: AsyncIterator[bytes],
        read: Callable[[AsyncIterator[bytes]], Awaitable[bytes | None]],
    ) -> None:
        self._requests = requests
        self._read = read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        frame = await self._read(self._requests)
        if frame is None:
            raise StopAsyncIteration
        return frame


class _BeginningSoon:
    """A request stream whose first frame has to come in time."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._begun:
            return await anext(self._requests)
        self._begun = True
        try:
            async with asyncio.timeout(FIRST_FRAME_SECONDS):
                return await anext(self._requests)
        except TimeoutError:
            raise _late() from None


class _Turns:
    """So many at a time; then the last who came."""

    def __init__(self, at_once: int, too_many: TooMany) -> None:
        self._left = at_once
        self._too_many = too_many
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it; `ResourceExhausted` when none comes."""
        if self._left:
            self._left -= 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._release()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await turn
        except BaseException as error:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:
                self._release()  # it came in the same moment
            if isinstance(error, TimeoutError):
                raise self._too_many() from None
            raise

    def _release(self) -> None:
        for at in range(len(self._waiting) - 1, -1, -1):
            turn = self._waiting[at]
            if not turn.done():
                del self._waiting[at]
                turn.set_result(None)
                return
        self._left += 1


def _too_many() -> ResourceExhausted:
    return ResourceExhausted(
        "too many calls without a key are open", "RATE_LIMITED", retry_after=TURN_SECONDS
    )


def _check_metadata(context: Context) -> None:
    metadata: Any = context.invocation_metadata()
    if sum(len(key) + len(value) + _OF_PAIR for key, value in metadata) > METADATA_BYTES:
        raise ResourceExhausted(
            f"a call without a key has at most {METADATA_BYTES:,} bytes of metadata", "MESSAGE_TOO_LARGE"
        )


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the request did not come in time", "DEADLINE_EXCEEDED")


_OF_PAIR = 32
