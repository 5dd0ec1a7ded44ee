"""The chaos protocol of the durable store: real processes on one file, faults by seed, and a checker that saw none of it.

::

    driver ── starts, feeds with faults, and waits ──┬─ 2 services    (service.py: two workers each, one SQLite file)
       │                                             ├─ 2 pushers     (pusher.py: no workers; push and cancel)
       │                                             └─ 2 observers   (observer.py: no workers; track)
       │                    each appends to files of its own: acknowledged ids, events seen, starts and ends of handlers
       v
    faults stop ──> everything ends ──> the services are stopped ──> checker (files and store only) ──> table

A fault is drawn by the seed: SIGKILL or SIGSTOP/SIGCONT of a worker, the guardian, a service, a service with all its
processes, a pusher, an observer; a subscriber that is stuck; scale; drain; and where the system lends itself to it, reads,
writes and syncs that fail (injecting.py), memory that runs out (starving.py), and the wall clock set (clock.py). With `--power`
all processes of the store can also lose power: what no one had synced is undone (power.py). What is timed by the machine
differs from run to run; the seed fixes what is done, to whom, when. A failed run is never repeated.

    python -m benchmarks chaos --minutes 1 --seed 7
"""
