"""What a service is made of, from what its caller asked for: kinds of workers, the store, what workers are set up with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from rxtasks.errors import SettingsError
from rxtasks.machine import usable_cpus

if TYPE_CHECKING:
    from rxtasks.engine.puts import Puts
    from rxtasks.isolation.base import Setup
    from rxtasks.pool.info import WorkerSpec
    from rxtasks.stores.base import Store
    from rxtasks.wire.message import Define

__all__ = ["make_modules", "make_puts", "make_setup", "make_specs", "make_store"]


def make_specs(
    workers: int | Sequence[WorkerSpec] | None, isolation: str, concurrency: int, fallback: Any
) -> tuple[list[WorkerSpec], str | None]:
    """Return the kinds of workers, and a sentence on what was taken instead of what was asked for, if anything (W-16).

    Raises:
        SettingsError: something is out of its range, or does not exist here and has no fallback.
    """
    from rxtasks.pool.info import ISOLATIONS, WorkerSpec

    if workers is None or (isinstance(workers, int) and not isinstance(workers, bool)):
        count = usable_cpus() if workers is None else workers
        if count < 0:
            raise SettingsError(f"workers is a whole number from 0 or a list of WorkerSpec, not {workers!r}")
        if isolation not in ISOLATIONS:
            raise SettingsError(f"isolation is one of {', '.join(ISOLATIONS)}, not {isolation!r}")
        spec = WorkerSpec(count or 1, isolation, concurrency=concurrency)
        specs = [spec] if count else []
    elif isinstance(workers, Sequence) and all(isinstance(spec, WorkerSpec) for spec in workers):
        specs = list(workers)
    else:
        raise SettingsError(f"workers is a whole number from 0 or a list of WorkerSpec, not {workers!r}")
    others = _fallbacks(fallback)
    said: str | None = None
    made = []
    for spec in specs:
        other = _available(spec, others)
        if other is not spec:
            said = f"worker processes do not exist on {sys.platform}: {other.isolation} workers are used instead"
        made.append(_inline_has_one(other))
    return made, said


def _fallbacks(fallback: Any) -> tuple[str, ...]:
    from rxtasks.pool.info import ISOLATIONS

    if fallback is None:
        return ("thread",)
    words = tuple(fallback) if isinstance(fallback, Iterable) and not isinstance(fallback, str) else (fallback,)
    if not all(word in ISOLATIONS for word in words):
        raise SettingsError(f"fallback holds isolations ({', '.join(ISOLATIONS)}) or is None, not {fallback!r}")
    return words


def _available(spec: WorkerSpec, fallback: tuple[str, ...]) -> WorkerSpec:
    """Return the spec, or what stands in for it where its isolation does not exist."""
    if spec.isolation != "process" or _has_processes():
        return spec
    for other in fallback:
        if other in ("thread", "inline"):
            return attrs.evolve(spec, isolation=other)
    raise SettingsError(f"worker processes do not exist on {sys.platform}, and fallback= allows nothing else")


def make_store(store: str | Store, *, retain: int, max_queue: int | None, retention: float | None = None) -> Store:
    """Return the store that `store` names, or itself.

    Raises:
        SettingsError: there is no such store.
    """
    if isinstance(store, str):
        if store == "memory":
            from rxtasks.stores.memory import MemoryStore

            return MemoryStore(retain=retain, max_queue=max_queue)
        if store.startswith("sqlite:///") and len(store) > len("sqlite:///"):
            from rxtasks.stores.sqlite.store import SqliteStore

            path = os.path.abspath(store.removeprefix("sqlite:///"))
            return SqliteStore(path, max_queue=max_queue, retention=retention)
        raise SettingsError(f"store is 'memory', 'sqlite:///path' or a store object, not {store!r}")
    if not all(hasattr(store, name) for name in ("durable", "enqueue", "claim", "commit")):
        raise SettingsError(f"store is 'memory' or a store object (rxtasks.stores.base.Store), not {store!r}")
    return store


def _inline_has_one(spec: WorkerSpec) -> WorkerSpec:
    """An inline worker is every caller's thread: there is one, and it never has to wait for itself."""
    return attrs.evolve(spec, count=1, concurrency=1000) if spec.isolation == "inline" else spec


def _has_processes() -> bool:
    return hasattr(os, "pidfd_open") and sys.platform == "linux"


def make_modules(modules: Any) -> list[str]:
    """Return the names of the modules that each worker imports.

    Raises:
        SettingsError: they are no names.
    """
    names = [modules] if isinstance(modules, str) else list(modules) if isinstance(modules, Iterable) else [modules]
    for name in names:
        if not isinstance(name, str) or not name:
            raise SettingsError(f"modules holds names of modules, such as 'package.module', not {name!r}")
    return names


def make_puts(specs: list[WorkerSpec], max_payload: int) -> Puts:
    """Return where objects are put that all tasks share."""
    from rxtasks.engine.puts import Puts
    from rxtasks.wire.sealed import PUT_NAME, SealedFiles

    kinds = {spec.isolation for spec in specs}
    processes = not kinds or "process" in kinds
    return Puts(SealedFiles(PUT_NAME), processes=processes, local=bool(kinds - {"process"}), limit=max_payload)


def make_setup(
    modules: list[str],
    initializer: Callable[..., Any] | None,
    initargs: Iterable[Any],
    specs: list[WorkerSpec],
    resources: Mapping[str, Callable[[], Any]] | None = None,
) -> Setup:
    """Return what each worker is set up with.

    Raises:
        SettingsError: initargs without an initializer, no arguments at all, an initializer that cannot be called, or a resource
            that is no factory.
        PayloadError: the initializer, its arguments or a factory cannot travel.
    """
    if not isinstance(initargs, Iterable):
        raise SettingsError(f"initargs is a tuple of arguments, not {initargs!r}; for one argument write (x,)")
    initargs = tuple(initargs)
    if initializer is None and initargs:
        raise SettingsError("initargs= needs an initializer=")
    if initializer is not None and not callable(initializer):
        raise SettingsError(f"initializer is a function, not {initializer!r}")
    from rxtasks.isolation.base import Setup
    from rxtasks.wire.payload import dump_value

    blob: bytes | None = None
    processes = any(spec.isolation == "process" for spec in specs)
    if initializer is not None and processes:
        blob = dump_value((initializer, initargs), what="initializer")
    factories = _factories(resources)
    return Setup(modules, initializer, initargs, blob, factories, _defines(factories, processes))


def _factories(resources: Any) -> dict[str, Callable[[], Any]]:
    from rxtasks.worker.fitted import check_fits

    if resources is None:
        return {}
    if not isinstance(resources, Mapping):
        raise SettingsError(f'resources holds factories by name, as {{"db": connect}}, not {resources!r}')
    for name, factory in resources.items():
        if not isinstance(name, str) or not name:
            raise SettingsError(f'resources holds factories by name, as {{"db": connect}}; {name!r} is no name')
        if not callable(factory):
            raise SettingsError(
                f"resource {name!r} is a factory, which each worker calls to build its own, not {factory!r};"
                " for a value that is there already write lambda: value"
            )
        check_fits(factory, (), f"the factory of resource {name!r}")
    return dict(resources)


def _defines(factories: dict[str, Callable[[], Any]], processes: bool) -> list[Define]:
    from rxtasks.errors import PayloadError
    from rxtasks.wire.callables import CallableTable
    from rxtasks.wire.message import Define

    table, made = CallableTable(), []
    for name, factory in factories.items():
        if not processes:
            made.append(Define(f"resource:{name}"))
            continue
        try:
            entry = table.key_for(factory)
        except PayloadError as error:
            raise PayloadError(f"the factory of resource {name!r}: {error}", error.path) from error
        made.append(Define(f"resource:{name}", entry.ref, entry.blob))
    return made
