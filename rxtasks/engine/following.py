"""An engine among others on one store: its lease, what others have done, and the tasks of those that are gone.

::

    bell ──> heard ──> follow ──> News ──> events and ends of others' tasks: to trackers, subscribers
               │                      └──> tasks of this engine that others want cancelled: CancelAsked
               ├─────> WorkArrived: others may have brought tasks
               └─────> look (also every `lease_renewal`) ──> lease renewed, tasks of the dead recovered
                                                         └──> Disowned: this engine itself was taken for dead

When a renewal is due and the lease has lapsed, because this process stood still or the store did, nothing is begun until it is
renewed (LeaseChanged): others may have the tasks.

On the core thread, but for what the store calls back. While there is one service on the store nothing rings, and only the
renewal and the poll are left. The poll looks for tasks that a bell may have missed, or where nothing can ring: after
`poll_interval`, then less and less often, up to `idle_backoff_max`, until tasks are claimed.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Final

from rxtasks.config import Settings
from rxtasks.engine.driver import Driver
from rxtasks.engine.outlet import ServiceOutlet
from rxtasks.engine.polling import Polling
from rxtasks.errors import StoreError
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.words import CancelAsked, Disowned, LeaseChanged, Publish, Stimulus, WorkArrived
from rxtasks.stores.base import DurableStore, Ending
from rxtasks.stores.membership import Interest, Looked, Membership, News, Recovery
from rxtasks.wire.outcome import Ended

__all__ = ["Following"]

#: Seconds between two answers to the bell: of what rings meanwhile one is enough.
_CALM: Final = 0.01
#: Seconds between two looks at what others have done where nothing can ring, and after how many it is looked whether they live.
_POLL: Final = 0.1
_ROUNDS: Final = 10
#: The kernel tells of a file's last close just before it frees the lock: seconds until it is tried again, and how often.
_AGAIN: Final = 0.02
_TRIES: Final = 25
#: Seconds until more is read while subscribers are behind.
_BEHIND: Final = 0.05


class Following:
    """Keeps up the membership of one engine, from its start to its end."""

    def __init__(
        self,
        membership: Membership,
        store: DurableStore,
        driver: Driver,
        outlet: ServiceOutlet,
        delivery: Delivery,
        settings: Settings,
    ) -> None:
        self._membership = membership
        self._store = store
        self._driver = driver
        self._outlet = outlet
        self._delivery = delivery
        self._settings = settings
        self._looking = False
        #: When the last renewal that was answered, and the last one at all, was asked for (monotonic).
        self._renewed_ns = self._asked_ns = driver.monotonic_ns()
        self._lapsed = False
        self._tries = 0
        self._rounds = 0
        self._polling = Polling(settings.poll_interval, settings.idle_backoff_max)
        #: Polls that were put on the clock: only the last one counts.
        self._polls = 0
        #: Events that were read from the log for trackers that were there before: task -> last seq. They come once more.
        self._known: dict[str, int] = {}
        #: What has been recovered since the start.
        self.recovery = Recovery()

    def begin(self) -> None:
        """Recover what the dead have left, then keep up with the living; before the driver starts.

        Raises:
            StoreError: the store failed.
        """
        membership = self._membership
        self.recovery = membership.recover()
        membership.listen(self._interest, self._told)
        self._driver.lock = self._driver.guardian.lock = membership.lock
        self._driver.call(self._begun)

    def _begun(self) -> list[Stimulus]:
        self._show(self.recovery)
        self._driver.later(self._settings.lease_renewal, self._renew)
        self._driver.claimed = self._claimed
        self._poll_later()
        if self._membership.bell >= 0:
            self._driver.watch(self._membership.bell, selectors.EVENT_READ, self._rung)
        else:
            self._driver.later(_POLL, self._look_round)
        for task_id in list(self._outlet.trackers):
            self._bring_up(task_id)
        self._membership.follow()
        return []

    def _bring_up(self, task_id: str) -> None:
        """Publish what has become of a task since its tracker was made: nobody followed until now."""
        tracker = self._outlet.trackers[task_id]
        try:
            self._publish_log(tracker)
            ending = self._store.ending(task_id)
            if ending is not None:
                self._publish_log(tracker)  # it may have ended between the two looks: its last event is there now
        except StoreError:
            return  # the next renewal, or whoever asks, will say so
        if ending is not None:
            self._publish([], 0, {task_id: ending})

    def _publish_log(self, tracker: TaskTracker) -> None:
        while page := self._store.events(tracker.task_id, tracker.last_seq + 1):
            self._known[tracker.task_id] = page[-1].seq
            self._publish(page, 200 * len(page), {})

    # -- the bell ------------------------------------------------------------------------------------------------------

    def _rung(self, events: int) -> list[Stimulus]:
        bell = self._membership.bell
        self._driver.unwatch(bell)
        self._driver.later(_CALM, self._listen_again)
        return self._heard()

    def _listen_again(self) -> list[Stimulus]:
        self._driver.watch(self._membership.bell, selectors.EVENT_READ, self._rung)
        return []

    def _look_round(self) -> list[Stimulus]:
        self._driver.later(_POLL, self._look_round)
        if not self._membership.heard():
            return []  # alone
        self._rounds = (self._rounds + 1) % _ROUNDS
        if not self._rounds:
            self._look()
        self._membership.follow()
        return []

    def _heard(self) -> list[Stimulus]:
        if self._membership.heard():
            self._tries = _TRIES
            self._look()
        self._membership.follow()
        return [WorkArrived()]

    # -- the poll ------------------------------------------------------------------------------------------------------

    def _poll_later(self) -> None:
        self._polls += 1
        number = self._polls
        self._driver.later(self._polling.next(), lambda: self._poll() if number == self._polls else [])

    def _poll(self) -> list[Stimulus]:
        self._poll_later()
        return [WorkArrived()]

    def _claimed(self) -> None:
        """Tasks were claimed: there may be more; on the store's thread."""
        if self._polling.claimed():
            self._driver.call(self._poll_sooner)

    def _poll_sooner(self) -> list[Stimulus]:
        if self._polling.claimed():  # else a claim before this one has been here
            self._poll_later()
        return []

    # -- looking after the others --------------------------------------------------------------------------------------

    def _renew(self) -> list[Stimulus]:
        self._driver.later(self._settings.lease_renewal, self._renew)
        self._look()
        self._membership.follow()
        lapsed = self._driver.monotonic_ns() - self._renewed_ns > self._settings.lease * 1e9
        return self._lease_is(lapsed)

    def _lease_is(self, lapsed: bool) -> list[Stimulus]:
        if lapsed is self._lapsed:
            return []
        self._lapsed = lapsed
        return [LeaseChanged(lapsed), WorkArrived()]

    def _look(self) -> list[Stimulus]:
        if not self._looking:
            self._looking = True
            self._asked_ns = self._driver.monotonic_ns()
            try:
                self._membership.look_later(
                    lambda looked, error: self._driver.call(lambda: self._looked(looked, error))
                )
            except StoreError:  # closed
                self._looking = False
        return []

    def _looked(self, looked: Looked | None, error: BaseException | None) -> list[Stimulus]:
        self._looking = False
        if looked is None:
            self._outlet.tell("warning", None, f"the lease could not be renewed: {error}")
            return []
        self._renewed_ns = self._asked_ns
        stimuli = self._lease_is(False)
        if looked.void is not None:
            self._outlet.tell(
                "warning",
                None,
                "the service stood still for longer than its lease, and its tasks were given to others;"
                " it goes on with new ones",
            )
            stimuli.append(Disowned(looked.void))
        recovery = looked.recovery
        if recovery:
            self._tries = 0
            self.recovery = self.recovery.and_then(recovery)
            self._show(recovery)
            self._membership.follow()
            stimuli.append(WorkArrived())
            if recovery.more:
                self._look()
        elif self._tries:
            self._tries -= 1
            self._driver.later(_AGAIN, self._look)
        return stimuli

    def _show(self, recovery: Recovery) -> None:
        if recovery:
            text = (
                f"{recovery.services} service(s) of the store found dead: {recovery.recovered} task(s) are in the queue again,"
                f" {recovery.failed} failed, {recovery.cancelled} were cancelled"
            )
            self._outlet.tell(
                "recovered",
                None,
                text,
                services=recovery.services,
                recovered=recovery.recovered,
                failed=recovery.failed,
                cancelled=recovery.cancelled,
                seconds=recovery.seconds,
            )

    # -- what others do ------------------------------------------------------------------------------------------------

    def _interest(self) -> Interest | None:
        """Say which events of others are wanted; any thread."""
        trackers, sinks, routes = self._outlet.trackers, self._outlet.sinks, self._delivery.routes
        everything = any([stream._targets for stream in routes.streams])
        if not (everything or trackers or sinks or routes.by_id):
            return None
        by_id = routes.by_id
        return Interest(everything, lambda task_id: task_id in trackers or task_id in sinks or task_id in by_id)

    def _told(self, news: News) -> None:
        """Take the news over; on the store's thread."""
        self._driver.call(lambda: self._take(news))

    def _take(self, news: News) -> list[Stimulus]:
        events = news.events
        if self._known:
            events = [event for event in events if event.seq > self._known.get(event.task_id, 0)]
        if events or news.endings:
            self._publish(events, news.size, news.endings)
        for task_id, reason in news.asked:
            self._driver.ask(_cancel(task_id, reason), lambda _: None)
        if not news.more:
            self._known.clear()
        elif self._outlet.full:
            self._driver.later(_BEHIND, self._go_on)
        else:
            self._membership.follow()
        return []

    def _go_on(self) -> list[Stimulus]:
        self._membership.follow()
        return []

    def _publish(self, events: list[TaskEvent], size: int, endings: dict[str, Ending]) -> None:
        outcomes: list[tuple[str, Ended]] = [(task_id, ending.outcome()) for task_id, ending in endings.items()]
        self._outlet.publish(Publish(events, [-1] * len(events), outcomes, size, 0))


def _cancel(task_id: str, reason: str | None) -> Callable[[int], Stimulus]:
    return lambda ticket: CancelAsked(ticket, task_id, reason, None)
