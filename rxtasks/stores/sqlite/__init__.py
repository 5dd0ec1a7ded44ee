"""The durable store in one SQLite file, through apsw.

::

    enqueue, commit, claim ──> Writer (one thread, one connection) ── group commit (fsync) ──> callbacks, callers go on
    get, list, events ──────> Readers (short, paged) ─────────────────────────────────────────> records, events

- place: which file, and whether it can be trusted with tasks; connection: how it is opened.
- migrations, schema/: what is in it, and how an older one becomes the present one.
- rows, eventlog: tasks and events as JSON documents and back. A statement takes a whole batch as one document
  (queries.sql): one step of SQLite's, during which Python's lock is free.
- writer: one transaction for all that has been asked meanwhile. store: the store contract (rxtasks.stores.base).
"""
