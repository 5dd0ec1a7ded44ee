"""Who is subscribed, and what each waits for or holds up: for explain()."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rxtasks.observe.calls import Ending
from rxtasks.reactive.subject import Target, name_of
from rxtasks.text import amount, counted

if TYPE_CHECKING:
    from rxtasks.observe.delivery import Delivery
    from rxtasks.reactive.subject import RxSubject

__all__ = ["behind", "subscribers"]

#: Subscribers that are named one by one.
_MOST = 50
#: Seconds from which on a call is called stuck.
_LONG = 1.0


def subscribers(delivery: Delivery, more: tuple[tuple[str, RxSubject[Any]], ...], now_ns: int) -> list[str]:
    """Say of each subscriber what it gets and what waits for it; the stuck ones first.

    Args:
        more: streams beside those of events, each with a word for it.
        now_ns: of the delivery's clock.
    """
    said = _call_in_progress(delivery, now_ns)
    said += _held(delivery, now_ns)
    said += _buffers(delivery)
    backlog = delivery._backlog
    if backlog.events:
        bounds = f"of {amount(backlog._bound_events)} and {amount(backlog._bound_size)} bytes"
        what = f"{counted(backlog.events, 'event')} ({amount(backlog.size)} bytes) wait to be handed out, {bounds}"
        said.append(f"{what}{': the buffer is full' if backlog.full else ''}")
    return said + _listeners(delivery, more)


def behind(delivery: Delivery, now_ns: int) -> list[str]:
    """Name those that are the reason why credit is withheld and no attempt is assigned."""
    return _call_in_progress(delivery, now_ns) + _held(delivery, now_ns)


def _call_in_progress(delivery: Delivery, now_ns: int) -> list[str]:
    driver, watchdog = delivery._driver, delivery._watchdog
    call = None if driver is None else driver.call
    if call is None or call is not watchdog._seen:
        return []
    receiver: Any = call[0].target if isinstance(call[0], Ending) else call[0]
    if not isinstance(receiver, Target) or receiver._observer is None:
        return []
    seconds = (now_ns - watchdog._since) / 1e9
    name = name_of(receiver._observer)
    if seconds < _LONG:
        return [f"subscriber {name} is in its call"]
    limit = watchdog.stall_ns / 1e9
    return [
        f"stuck: subscriber {name} has held the delivery thread for at least {seconds:.1f} s in one call; after {limit:g} s it"
        " is detached. Put a strategy (buffer_bounded, latest, batch) before slow work"
    ]


def _held(delivery: Delivery, now_ns: int) -> list[str]:
    said = []
    for held in delivery._holds.all():
        observer = _observer_of(held.buffer) or held.target._observer
        if not held.holding or observer is None:
            continue
        waits = f"its buffer is full, {counted(len(held.spill), 'event')} more wait for it"
        seconds = (now_ns - held.since) / 1e9 if held.since else 0.0
        stuck = "stuck: " if seconds >= _LONG else ""
        for_how_long = f" and it has taken nothing for at least {seconds:.1f} s" if stuck else ""
        of = "all tasks" if held.task_id is None else f"task {held.task_id}"
        said.append(f"{stuck}subscriber {_name(observer)}: {waits}{for_how_long}; the credit of {of} is withheld")
    return said


def _buffers(delivery: Delivery) -> list[str]:
    held = {id(each.buffer) for each in delivery._holds.all() if each.holding}
    return [
        f"subscriber {_name(_observer_of(buffer) or buffer)}: {counted(buffer.waiting, 'value')} in the buffer of its strategy"
        for buffer in delivery._buffers[:_MOST]
        if buffer.waiting and id(buffer) not in held
    ]


def _observer_of(buffer: Any) -> Any:
    return getattr(buffer, "_observer", None)


def _name(observer: Any) -> str:
    return name_of(observer)


def _listeners(delivery: Delivery, more: tuple[tuple[str, RxSubject[Any]], ...]) -> list[str]:
    found: Counter[str] = Counter()
    for what, subject in more:
        found.update(_names(subject, what))
    for subject in delivery.routes.streams:
        if all(subject is not other for _, other in more):
            found.update(_names(subject, "all events"))
    for key, subjects in list(delivery.routes.by_id.items())[:_MOST]:
        for subject in subjects:
            found.update(_names(subject, f"the events of {key}"))
    return [
        f"subscriber {name} waits for {what}{f' ({times} times)' if times > 1 else ''}"
        for (name, what), times in ((text.split("\n"), times) for text, times in list(found.items())[:_MOST])
    ]


def _names(subject: RxSubject[Any], what: str) -> list[str]:
    return [f"{name_of(target._observer)}\n{what}" for target in subject._targets if target._observer is not None]
