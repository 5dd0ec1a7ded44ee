"""The intake of a durable store: tasks by name, arguments as JSON; and from the name of a stored task back to its function.

A stored row names its function and nothing else: no module is imported and no attribute is looked up for it. A name is met by
a handler that is registered in this process, or by a function that was submitted in it; else a worker looks it up in the
registry that `modules=` filled there, and fails the task with UnknownHandler if it is not in that either.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from rxtasks.engine.intake import Intake, Plan
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, OPEN_OPTIONS, OpenOptions, TaskOptions, filled
from rxtasks.lifecycle.stored import options_from_json
from rxtasks.lifecycle.task import new_id
from rxtasks.stores.base import Claim, Envelope
from rxtasks.wire.tagged import STORED_LIMIT, dump_tagged_args
from rxtasks.worker.registry import default_name, how_to_register, registration_of

__all__ = ["StoredIntake"]


class StoredIntake(Intake):
    """Makes envelopes that outlive this process, and resolves those that come back. Any thread."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        #: Options that were filled, by the id of the open ones and the name of the function: (open, its own, filled).
        self._fillings: dict[tuple[int, str], tuple[TaskOptions, TaskOptions | str | None, TaskOptions]] = {}

    def envelope(
        self,
        task: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        trace: str | None = None,
        hold: bool = False,
    ) -> Envelope:
        """Return the envelope of a request.

        Raises:
            UnknownHandler: `task` is a name that nothing can be registered under.
            SettingsError: `task` is no function that can be named, or an option cannot be met here.
            PayloadError: an argument is not exact in JSON, tags included; names it.
        """
        name, shown, found = self._named(task)
        if options is None:
            options = found
        if changes:
            options = attrs.evolve(options, **changes)
        self._accept(options)
        payload = dump_tagged_args(args, kwargs, limit=min(self._max_payload, STORED_LIMIT))
        now_us = self._clock.wall_us()
        made = Envelope(
            task_id or new_id(),
            options.name or shown,
            name,
            None,
            None,
            "t",
            payload,
            options,
            now_us,
            trace,
            self._due(options, now_us),
            hold,
        )
        if self._bounded or self._relating:
            self._relate(made)
        return made

    def envelopes(
        self,
        task: str | Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        changes: Mapping[str, Any] | None,
        made: list[Envelope],
    ) -> None:
        """Append to `made` the envelope of each call.

        Raises:
            UnknownHandler, SettingsError: as envelope.
            PayloadError: as envelope; those before it have been appended.
        """
        options = self._named(task)[2]
        if changes:
            options = attrs.evolve(options, **changes)
        for args in calls:
            made.append(self.envelope(task, args, {}, options))

    def resolve(self, claims: list[Claim]) -> None:
        """Put the functions of stored tasks into their envelopes, as far as they are known here."""
        for claim in claims:
            envelope = claim.envelope
            plan = self._known(envelope.function)
            if type(envelope.options) is OpenOptions:
                envelope.options = self._filled(envelope.options, envelope.function, plan)
            if plan is None:
                envelope.function = "n:" + envelope.function
            else:
                envelope.function, envelope.ref, envelope.blob = plan.key, plan.ref, plan.blob

    def options_of(
        self, task: str | Callable[..., Any], options: TaskOptions | None, changes: Mapping[str, Any] | None
    ) -> TaskOptions:
        """Return the options that a request has in the end: its own, or those of its function, with the changes."""
        if options is None:
            options = self._named(task)[2]
        return attrs.evolve(options, **changes) if changes else options

    def _filled(self, options: TaskOptions, name: str, plan: Plan | None) -> TaskOptions:
        """Return the options of a task whose function was not known where it was pushed, now that it is."""
        own: TaskOptions | str | None = self.own_options.get(name) if plan is None else plan.options
        known = self._fillings.get((id(options), name))
        if known is not None and known[0] is options and known[1] is own:
            return known[2]
        made = filled(options, _read(own) if isinstance(own, str) else own or DEFAULT_OPTIONS)
        if len(self._fillings) > 1000:
            self._fillings.clear()
        self._fillings[id(options), name] = (options, own, made)
        return made

    def _known(self, name: str) -> Plan | None:
        function = self._registry.find(name) or self._registry.noted(name)
        return None if function is None else self._planned(function)

    def _named(self, task: str | Callable[..., Any]) -> tuple[str, str, TaskOptions]:
        """Return the name under which the task is stored, the one that is shown, and the function's own options."""
        plan = self._planned(task)
        function = plan.function
        if function is None:
            return plan.name, plan.name, OPEN_OPTIONS
        registration = registration_of(function)
        if registration is not None:
            name = registration.name
        else:
            name = default_name(function)
            if not _leads_to(name, function):
                raise SettingsError(
                    f"{function!r} cannot be stored: a durable store keeps tasks by the name of their function;"
                    " define it at the top of a module (with @task(...), to give it a name of its own)"
                )
            if self._registry.noted(name) is not function and self._registry.note(name, function):
                warnings.warn(
                    f"{name} is not registered: only a process that has submitted it can run its stored tasks, so after a"
                    f" restart they wait or fail; {how_to_register(name)}",
                    RuntimeWarning,
                    stacklevel=_stack_level(),
                )
        return name, plan.name, plan.options


def _read(text: str) -> TaskOptions:
    """Return what a worker has told of a handler; what cannot be read is nothing."""
    try:
        return options_from_json(text)
    except (ValueError, TypeError, KeyError):
        return DEFAULT_OPTIONS


def _stack_level() -> int:
    """Return the level of the first frame outside of rxtasks: the line that submits."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rxtasks."):
        level, frame = level + 1, frame.f_back
    return level


def _leads_to(name: str, function: Callable[..., Any]) -> bool:
    """Say whether "module:qualname" is the name of this very function. No partial, closure or bound method has one."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is not None and found is function
