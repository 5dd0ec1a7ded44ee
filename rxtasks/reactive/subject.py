"""`RxSubject`: the base of every subject of rxtasks, and `Target`: one subscription to it.

Stock `Subject` copies its list of observers under a lock for every event, lets an observer that raises throw into
the emitter (the rest miss the event), and overlaps calls when two threads emit. Here:

- observers are a tuple of `Target`, replaced as a whole on subscribe and dispose; emitting is a loop over it;
- each call is shielded: an observer that raises is reported once and detached, the others and the emitter notice
  nothing;
- an emission during an emission (from the same thread or another) waits in a queue that the emitting thread empties:
  calls never overlap, all observers see one order, and the stack does not grow;
- an observer is called with the context variables with which it subscribed: the delivery thread has none of its own, and
  what depends on them (the cell of a notebook that output belongs to, a span, a bound logger) is the subscriber's, and
  so is what is reported of it;
- nothing that a subject rarely needs is made before it is needed: making one costs a few attribute writes.

`_subscribe_core` is the only way in, so every operator of RxPY works on an RxSubject.

A subject can also be driven from outside (`rxtasks.observe.delivery` does): whoever drives it reads `_targets` and
calls `Target.next` itself, one call at a time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, Generic, TypeVar

from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.internal import DisposedException
from reactivex.internal.basic import default_error, noop
from reactivex.observer import AutoDetachObserver
from reactivex.subject import Subject

from rxtasks.errors import QueueFull
from rxtasks.reactive.notiterable import NotIterable

__all__ = ["PENDING_LIMIT", "Report", "RxSubject", "Target", "log_problem", "name_of"]

_T = TypeVar("_T")

#: Told of what went wrong with a subscriber: a sentence, and the exception where there is one. Must not raise.
Report = Callable[[str, BaseException | None], None]

#: Values that may wait because they were emitted during an emission (R6). Beyond it other threads wait their turn,
#: and the emitting thread itself gets QueueFull.
PENDING_LIMIT: Final = 10_000

_OPEN, _STOPPED, _DISPOSED = 0, 1, 2
_NEXT, _ERROR, _COMPLETED, _CALL = 0, 1, 2, 3

#: Guards every replacement of a `_targets` tuple; held for a few instructions, never around a call.
_EDIT = threading.Lock()


def log_problem(what: str, error: BaseException | None) -> None:
    """Write the problem to the logger "rxtasks"; the default `Report`."""
    logging.getLogger("rxtasks").error(
        what, exc_info=None if error is None else (type(error), error, error.__traceback__)
    )


def _ignore(_: Any) -> None:
    """Take what comes after the end."""


class Target(abc.DisposableBase, Generic[_T]):
    """One subscription: hands values to an observer under the rules of the module. Disposing it detaches the observer.

    `push` is what a value is given to: the observer's on_next, or what its subject or the delivery put in its place
    (a filter, a queue while the observer is held). `plain` is the one to return to. `held` is set while what comes
    has to wait elsewhere, the end too.
    """

    __slots__ = ("__weakref__", "_context", "_observer", "active", "held", "owner", "plain", "push")

    def __init__(
        self, owner: RxSubject[Any], observer: abc.ObserverBase[_T], push: Callable[[Any], None] | None = None
    ) -> None:
        self.owner = owner
        self._observer: abc.ObserverBase[_T] | None = observer
        self.active = True
        self.held: Any = None
        context = copy_context()
        #: What the subscriber's context variables were; None where none is set, and nothing has to be entered.
        self._context: Context | None = context if len(context) else None
        if push is None:
            push = observer.on_next
        run: Callable[..., None] = context.run
        self.plain: Callable[[Any], None] = push if self._context is None else partial(run, push)
        self.push = self.plain

    def shut(self) -> None:
        """Pass over what comes, but not the end, until open(). Before the subscription is attached."""
        self.push = _ignore

    def open(self) -> None:
        """Take what comes from now on; called by who drives the subject, between two values."""
        with _EDIT:
            if self.active:
                self.push = self.plain

    def next(self, value: _T) -> None:
        """Give `value` to the observer; one that raises is reported and detached. Never raises because of it."""
        try:
            self.push(value)
        except BaseException as error:
            self.raised(error)

    def fail(self, error: Exception) -> None:
        """End the subscription with on_error. Does nothing after the end."""
        tell = self.withdraw()
        if tell is not None:
            tell(error)

    def complete(self) -> None:
        """End the subscription with on_completed. Does nothing after the end."""
        context = self._context
        observer = self._end()
        if observer is not None:
            try:
                _call_in(context, observer.on_completed)
            except BaseException as raised:
                _call_in(context, self._tell, f"subscriber {name_of(observer)} raised in on_completed", raised)
            _forget(observer)

    def raised(self, error: BaseException) -> None:
        """Report `error`, that the observer raised, and detach it; only the first one of a target counts."""
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise error  # meant for the program, not raised by the observer
        context = self._context
        observer = self._end()
        if observer is not None:
            _call_in(context, self._tell, f"subscriber {name_of(observer)} raised and was detached", error)
            _forget(observer)

    def dispose(self) -> None:
        """Detach the observer without a word to it; no reference to it is kept."""
        observer = self._end()
        if observer is not None:
            _forget(observer)

    def withdraw(self) -> Callable[[Exception], None] | None:
        """Detach the observer now, while a call of it is in progress; return what gives it its on_error afterwards.

        None when it is detached already.
        """
        context = self._context
        observer = self._end()
        if observer is None:
            return None

        def fail(error: Exception) -> None:
            try:
                _call_in(context, observer.on_error, error)
            except BaseException as raised:
                # An observer without on_error raises the error itself: that is no fault of its own.
                if raised is not error:
                    _call_in(context, self._tell, f"subscriber {name_of(observer)} raised in on_error", raised)
            _forget(observer)

        return fail

    def _end(self) -> abc.ObserverBase[_T] | None:
        """Take the observer out: one caller gets it, all others None."""
        with _EDIT:
            observer, self._observer = self._observer, None
            self.active = False
            self.held = None
            self._context = None
            self.plain = self.push = _ignore
            if observer is None:
                return None
            owner = self.owner
            owner._targets = tuple([target for target in owner._targets if target is not self])
        owner._detached(self)
        return observer

    def _tell(self, what: str, error: BaseException) -> None:
        try:
            self.owner._report(what, error)
        except Exception as failed:
            log_problem("a reporter of subscriber problems raised", failed)


def _call_in(context: Context | None, call: Callable[..., None], *args: Any) -> None:
    """Make the call that ends a subscription. In a copy: a call of it may be in progress, here or on another thread."""
    if context is None:
        call(*args)
    else:
        context.copy().run(call, *args)


def name_of(observer: Any) -> str:
    """Return how a report names an observer: the qualified name of the function or class behind it."""
    inner = observer._on_next if isinstance(observer, AutoDetachObserver) else observer
    inner = getattr(inner, "__self__", inner) if not hasattr(inner, "__qualname__") else inner
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return f"{getattr(inner, '__module__', None) or type(inner).__module__}.{name}"


def _forget(observer: abc.ObserverBase[Any]) -> None:
    """Stop RxPY's wrapper of a subscriber and cut its references, which the caller's disposable keeps alive."""
    if isinstance(observer, AutoDetachObserver):
        observer.dispose()
        observer._on_next = observer._on_error = _ignore
        observer._on_completed = noop


class _Gate:
    """Lets one emission through at a time; see RxSubject._emit."""

    __slots__ = ("busy", "lock", "pending")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pending: deque[tuple[int, Any]] = deque()
        #: True while the owner of the lock is in a broadcast; seen by the owner itself only.
        self.busy = False


#: What Observable, Observer and Subject set in __init__, made when first asked for.
_LAZY: Final[dict[str, Callable[[RxSubject[Any]], Any]]] = {
    "lock": lambda subject: subject.__dict__.setdefault("lock", threading.RLock()),
    "observers": lambda subject: [target._observer for target in subject._targets],
    "is_stopped": lambda subject: subject._state != _OPEN,
    "is_disposed": lambda subject: subject._state == _DISPOSED,
    "exception": lambda subject: subject._error,
    "_subscribe": lambda subject: None,
    "_handler_on_next": lambda subject: noop,
    "_handler_on_error": lambda subject: default_error,
    "_handler_on_completed": lambda subject: noop,
}


class RxSubject(NotIterable, Subject[_T]):
    """A Subject whose observers cannot hurt each other or the emitter; see the module.

    Subclasses whose input differs from their output (an engine takes requests and gives events) override on_next and
    emit with `_emit_next`.
    """

    _targets: tuple[Target[_T], ...] = ()
    _state: int = _OPEN
    _error: Exception | None = None
    _gate: _Gate | None = None
    #: The flow control of the stream, see rxtasks.reactive.flow; None where there is none.
    _flow: Any = None

    def __init__(self) -> None:
        # Not super().__init__: what it makes (two locks, a list) is made when asked for; __getattr__ does it.
        pass

    def __getattr__(self, name: str) -> Any:
        make = _LAZY.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return make(self)

    # -- subscribing --------------------------------------------------------------------------------------------------

    def _subscribe_core(
        self, observer: abc.ObserverBase[_T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self._attach(Target(self, observer))

    def _attach(self, target: Target[_T]) -> abc.DisposableBase:
        """Add `target`, or end it at once when the subject has ended.

        Raises:
            DisposedException: the subject has been disposed.
        """
        with _EDIT:
            if self._state == _OPEN:
                self._targets = (*self._targets, target)
                return target
        if self._state == _DISPOSED:
            raise DisposedException()
        if self._error is not None:
            target.fail(self._error)
        else:
            target.complete()
        return Disposable()

    def _add(self, target: Target[_T]) -> bool:
        """Add `target`, whether or not the stream has ended; False when it is disposed already."""
        with _EDIT:
            if target.active and target not in self._targets:
                self._targets = (*self._targets, target)
            return target.active

    def _detached(self, target: Target[_T]) -> None:
        """Called after `target` has left, once for each; on any thread."""

    def _report(self, what: str, error: BaseException | None) -> None:
        """Called with what went wrong in a subscriber."""
        log_problem(what, error)

    # -- emitting -----------------------------------------------------------------------------------------------------

    def on_next(self, value: _T) -> None:
        """Give `value` to every observer.

        Raises:
            DisposedException: the subject has been disposed.
            QueueFull: an observer emits into the subject that calls it, over and over (PENDING_LIMIT).
        """
        if self._state:
            self._refuse_disposed()
            return
        gate = self._gate
        if gate is None or gate.pending or not gate.lock.acquire(False):
            self._emit(_NEXT, value)
            return
        if gate.busy:
            gate.lock.release()
            self._emit(_NEXT, value)
            return
        gate.busy = True  # from here on what _emit and _broadcast do, in line
        try:
            for target in self._targets:
                try:
                    target.push(value)
                except BaseException as error:
                    target.raised(error)
        finally:
            gate.busy = False
            gate.lock.release()
        if gate.pending:
            self._settle(gate)

    def on_error(self, error: Exception) -> None:
        """End the stream: give `error` to every observer, now and later."""
        if self._stop(error):
            self._emit(_ERROR, error)

    def on_completed(self) -> None:
        """End the stream: complete every observer, now and later."""
        if self._stop(None):
            self._emit(_COMPLETED, None)

    def dispose(self) -> None:
        """Detach all observers without a word and refuse new ones."""
        with _EDIT:
            self._state = _DISPOSED
            self._error = None
            targets = self._targets
        for target in targets:
            target.dispose()

    def _emit_next(self, value: _T) -> None:
        """Give `value` to every observer, unless the stream has ended."""
        if not self._state:
            self._emit(_NEXT, value)

    def _in_turn(self, action: Callable[[], None]) -> None:
        """Call `action` in its place among the emissions: no observer is called while it runs."""
        self._emit(_CALL, action)

    def _on_next_core(self, value: _T) -> None:
        self._emit(_NEXT, value)

    def _on_error_core(self, error: Exception) -> None:
        self._stop(error)
        self._emit(_ERROR, error)

    def _on_completed_core(self) -> None:
        self._stop(None)
        self._emit(_COMPLETED, None)

    def _stop(self, error: Exception | None) -> bool:
        """Mark the stream as ended; True for the first caller."""
        with _EDIT:
            if self._state == _OPEN:
                self._state = _STOPPED
                self._error = error
                return True
        self._refuse_disposed()
        return False

    def _refuse_disposed(self) -> None:
        if self._state == _DISPOSED:
            raise DisposedException()

    def _emit(self, kind: int, value: Any) -> None:
        """Broadcast now, or leave it to the thread that is broadcasting.

        Values wait in `pending`; whoever holds the lock empties it and looks again after the release, so none is left
        behind. The direct way is taken only while none waits: a thread's own values keep their order.
        """
        gate = self._gate or self._make_gate()
        if gate.lock.acquire(False):
            if gate.busy:  # an observer emits into the subject that calls it: after the current value
                gate.lock.release()
                if len(gate.pending) >= PENDING_LIMIT:
                    raise QueueFull(f"an observer emitted {PENDING_LIMIT} values into the subject that calls it")
                gate.pending.append((kind, value))
                return
            gate.busy = True
            try:
                while gate.pending:
                    self._broadcast(*gate.pending.popleft())
                self._broadcast(kind, value)
            finally:
                gate.busy = False
                gate.lock.release()
        else:
            if len(gate.pending) >= PENDING_LIMIT:
                with gate.lock:
                    self._drain(gate)
            gate.pending.append((kind, value))
        if gate.pending:
            self._settle(gate)

    def _make_gate(self) -> _Gate:
        with _EDIT:
            if self._gate is None:
                self._gate = _Gate()
            return self._gate

    def _settle(self, gate: _Gate) -> None:
        while gate.pending and gate.lock.acquire(False):
            try:
                if gate.busy:
                    return
                self._drain(gate)
            finally:
                gate.lock.release()

    def _drain(self, gate: _Gate) -> None:
        gate.busy = True
        try:
            while gate.pending:
                self._broadcast(*gate.pending.popleft())
        finally:
            gate.busy = False

    def _broadcast(self, kind: int, value: Any) -> None:
        if kind == _NEXT:
            for target in self._targets:
                target.next(value)
        elif kind == _ERROR:
            for target in self._targets:
                target.fail(value)
        elif kind == _COMPLETED:
            for target in self._targets:
                target.complete()
        else:
            value()
