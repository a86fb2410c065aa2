"""Frames on a byte stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.framing import FrameDecoder, FrameTooLarge, encode


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_out_whole_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(encode(body) for body in bodies)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    decoder = FrameDecoder()
    decoded = []
    for start, end in itertools.pairwise(edges):
        decoded += decoder.feed(stream[start:end])
    assert decoded == bodies


def test_a_frame_above_the_limit_is_refused_before_it_arrived() -> None:
    with pytest.raises(FrameTooLarge):
        FrameDecoder(limit=10).feed(encode(bytes(11))[:4])


def test_a_frame_at_the_limit_is_not() -> None:
    assert FrameDecoder(limit=10).feed(encode(bytes(10))) == [bytes(10)]


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_a_frame_that_is_too_large_can_be_skipped(piece: int) -> None:
    skipped: list[int] = []
    decoder = FrameDecoder(limit=10, skipped=skipped.append)
    stream = encode(b"before") + encode(bytes(50)) + encode(bytes(11)) + encode(b"after")
    bodies = [body for at in range(0, len(stream), piece) for body in decoder.feed(stream[at : at + piece])]
    assert bodies == [b"before", b"after"]
    assert skipped == [50, 11]
