"""Values in JSON, exactly: what JSON has no word for is carried by tags (Q-09).

A value that JSON carries without change stands as it is. Anything else becomes `{"$t": tag, ...}`; a dict that has a
key "$t" of its own is carried as `{"$t": "dict"}`. What has no tag is refused with the path to it: nothing is ever
changed silently. Instances of a subclass of a built-in type are refused too, Enum members apart.

Classes (Enum, dataclasses, attrs classes) travel as "module:QualName" and are rebuilt from a class that is already
imported, field by field; no __init__, no validator runs. Reading runs no code of the data's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from rxtasks.errors import PayloadError
from rxtasks.wire.jsondepth import MAX_DEPTH, deeper
from rxtasks.wire.payload import exact_json
from rxtasks.wire.tagreader import rebuild
from rxtasks.wire.tagwriter import TagWriter

__all__ = ["STORED_LIMIT", "dump_tagged", "dump_tagged_args", "load_tagged", "load_tagged_args"]

#: Bytes of the largest stored payload.
STORED_LIMIT: Final = 16 * 2**20


def dump_tagged(value: Any, *, what: str = "value", limit: int = STORED_LIMIT) -> bytes:
    """Return `value` as JSON from which `load_tagged` gives an equal value of equal types.

    Raises:
        PayloadError: a part of it has no tag, it is nested over 200 levels deep (tags count), or it takes over `limit`
            bytes; `path` begins with `what`.
    """
    exact = exact_json(value, limit)
    if exact is not None and b'"$t"' not in exact[0]:
        return exact[0]
    return _write(TagWriter().put(value, what, 0), what, limit)


def dump_tagged_args(args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int = STORED_LIMIT) -> bytes:
    """Return the arguments of a call as JSON for `load_tagged_args`.

    Raises:
        PayloadError: as dump_tagged; `path` begins with args[i] or kwargs['name'].
    """
    named = dict(kwargs)
    exact = exact_json([list(args), named], limit)
    if exact is not None and b'"$t"' not in exact[0]:
        return exact[0]
    writer = TagWriter()
    return _write([writer.items(args, "args", 1), writer.put(named, "kwargs", 1)], "the arguments", limit)


def load_tagged(data: bytes) -> Any:
    """Return the value that `dump_tagged` wrote.

    Raises:
        PayloadError: it is no tagged JSON, or a class in it is not imported here or has changed.
    """
    return rebuild(_read(data), "value")


def load_tagged_args(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the (args, kwargs) that `dump_tagged_args` wrote.

    Raises:
        PayloadError: as load_tagged.
    """
    pair = _read(data)
    if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not list:
        raise PayloadError("stored arguments are [args, kwargs]", "")
    args = tuple([rebuild(item, f"args[{index}]") for index, item in enumerate(pair[0])])
    kwargs = rebuild(pair[1], "kwargs")
    if type(kwargs) is not dict:
        raise PayloadError("stored keyword arguments are an object", "kwargs")
    return args, kwargs


def _write(tree: Any, what: str, limit: int) -> bytes:
    data = orjson.dumps(tree)
    if len(data) > limit:
        raise PayloadError(
            f"{what}: {len(data)} bytes as JSON; allowed are {limit}. Give the task the path of a file instead", what
        )
    return data


def _read(data: bytes) -> Any:
    try:
        tree = orjson.loads(data)
    except ValueError as error:
        raise PayloadError(f"not JSON: {error}") from None
    if deeper(tree, bytes(data)):
        raise PayloadError(f"nested over {MAX_DEPTH} levels deep")
    return tree
