"""Large values: whatever buffers a value has, it comes back the same, writable where it was, by every way."""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtasks.wire.framing import Buffer
from rxtasks.wire.parcel import pack, unpack
from rxtasks.wire.passing import Passing
from rxtasks.wire.payload import OUT_OF_BAND, load_args, loads, pack_args, pack_value
from rxtasks.wire.sealed import Sealed, seal

_TYPES = st.sampled_from(["u1", "<i4", ">f8", "c16", "M8[s]", "S3", "?"])


def no_room(pieces: object, size: int) -> None:
    """Return no file, as where there is no room for one."""


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Return an array of any layout: contiguous or not, Fortran's order, empty, read-only, of no dimension."""
    shape = draw(st.lists(st.integers(0, 40), max_size=3))
    kind = np.dtype(draw(_TYPES))
    count = int(np.prod(shape))
    if draw(st.integers(0, 9)) == 0 and shape:
        shape[0] = OUT_OF_BAND // (max(1, count // max(1, shape[0])) * kind.itemsize) + 3
        count = int(np.prod(shape))
    made = np.frombuffer((b"0123456789abcdef" * (count * kind.itemsize // 16 + 1))[: count * kind.itemsize], np.uint8)
    array = made.copy().view(kind).reshape(shape)
    turn = draw(st.integers(0, 3))
    if turn == 1:
        array = np.asfortranarray(array)
    elif turn == 2:
        array = array[::2] if array.ndim else array
    elif turn == 3:
        array = array.T[..., ::-1] if array.ndim else array
    if draw(st.booleans()):
        array.flags.writeable = False
    return array


_LEAVES = (
    arrays() | st.binary(max_size=50).map(bytearray) | st.binary(max_size=50) | st.integers() | st.text(max_size=5)
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in type and content; arrays also in layout and in whether they can be written to."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        expected = pickle.loads(pickle.dumps(one, 5))  # what any other way makes of it
        return (
            (expected.dtype, expected.shape, expected.flags.writeable, expected.flags.f_contiguous)
            == (other.dtype, other.shape, other.flags.writeable, other.flags.f_contiguous)
            and expected.tobytes() == other.tobytes()
        )  # fmt: skip
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from([0, OUT_OF_BAND]), st.booleans())
def test_a_value_comes_back_the_same_through_a_file_and_through_bytes(value: Any, least: int, room: bool) -> None:
    """E-20: many buffers or none, of no length too, mixed and nested, writable and read-only."""
    packed = pack_value(value, seal if room else no_room, least=least)
    assert same(value, loads(packed))
    if isinstance(packed, Sealed):
        assert same(value, loads(bytes(packed.view()))), "in frames"
        assert same(value, loads(packed)), "a second time: the first reader's changes are its own"


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text("abc", max_size=2), VALUES, max_size=2))
def test_arguments_come_back_the_same_from_another_end(args: list[Any], kwargs: dict[str, Any]) -> None:
    """E-20: through a descriptor that was passed on."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    give, take = (Passing(socket.socket(fileno=end.detach()), in_order=True) for end in (one, other))
    packed = pack_args(tuple(args), kwargs, seal)
    number = give.give(packed)
    assert number is not None
    back, named = load_args(take.take(number, len(packed)))
    give.close()
    take.close()
    assert same(tuple(args), back)
    assert same(kwargs, named)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.lists(st.binary(max_size=200), max_size=20))
def test_a_parcel_gives_what_was_packed_each_buffer_in_line(pickled: bytes, buffers: list[bytes]) -> None:
    """E-20: pieces one after another are the parcel; buffers begin at multiples of 64."""
    pieces, size = pack(pickled, [memoryview(buffer) for buffer in buffers])
    parcel = b"".join(pieces)
    assert size == len(parcel)
    first, views = unpack(memoryview(parcel))
    assert (pickled, buffers) == (bytes(first), [bytes(view) for view in views])
    assert all(parcel.index(view.obj[:0]) == 0 for view in views)  # views of the parcel, no copies
    assert all(np.frombuffer(view, np.uint8).ctypes.data % 64 == np.frombuffer(parcel, np.uint8).ctypes.data % 64
               for view in views if len(view))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80),
    st.lists(st.integers(0, 200) | st.integers(0, 2**64 - 1), max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_any_bytes_are_a_parcel_or_a_value_error(rest: bytes, numbers: list[int], count: int) -> None:
    """R21: places that lie outside are refused, never read."""
    index = b"".join(number.to_bytes(8, "little") for number in numbers)
    data: Buffer = b"rxP1" + min(count, 4 if len(rest) % 2 else 2**32).to_bytes(4, "little") + index + rest
    try:
        first, views = unpack(memoryview(data))
    except ValueError:
        return
    sizes = [size for _, size in struct.iter_unpack("<QQ", data[8 : 8 + 16 * (1 + len(views))])]
    assert sizes == [len(view) for view in (first, *views)]
