-- Tasks, their events, and who works on them. Times are microseconds of the wall clock.

create table meta (
    name text primary key,
    value integer not null
) strict, without rowid;

insert into meta values ('fence', 0);

-- One row for each service that has the store open; deleted when it stops, or when another finds it dead.
create table services (
    number integer primary key autoincrement,
    id text not null unique,
    pid integer not null,
    host text not null,
    boot text not null,
    -- Nanoseconds of the boot's own clock (suspend counted) until which its claims hold.
    lease_ns integer not null,
    started_us integer not null
) strict;

create table tasks (
    number integer primary key autoincrement,
    id text not null unique,
    name text not null,
    function text not null,
    form text not null,
    -- JSON; null when it lies in `arguments`, as what is long does: an update writes the whole row again.
    payload text,
    options text,
    -- Queue and isolation: what a lane takes or leaves.
    bucket text not null,
    priority integer not null,
    status text not null,
    -- Before then it does not run; 0 = at once.
    due_us integer not null default 0,
    created_us integer not null,
    trace text,
    dedup text,
    -- The claim that holds it, 0 = none; and the service that has it.
    token integer not null default 0,
    service integer not null default 0,
    attempt integer not null default 0,
    failures integer not null default 0,
    crashes integer not null default 0,
    interruptions integer not null default 0,
    next_seq integer not null default 1,
    worker text,
    started_us integer,
    finished_us integer,
    value text,
    -- What `value` refers to.
    stored text,
    error text,
    progress text,
    checkpoint text,
    -- Asked to be cancelled while a service had it, or before it may run: '' or the reason.
    cancel text,
    -- What a claim or its end has to look at more closely: 1 gates, 2 results of steps, 4 a schedule;
    -- 8: it depends on others.
    related integer not null default 0,
    schedule text,
    -- When it is due once it is not blocked any more.
    after_us integer not null default 0
) strict;

create index waiting on tasks (bucket, priority desc, number) where status = 'pending' and token = 0;
create index timed on tasks (due_us) where due_us > 0 and token = 0 and finished_us is null;
create index held on tasks (service) where token > 0;
create unique index standing on tasks (dedup) where dedup is not null and finished_us is null;
create index ended on tasks (finished_us) where finished_us is not null;

create table arguments (
    number integer primary key,
    payload text not null
) strict;

-- What was published, in the order of publication: each row holds events of one task that followed each other.
create table events (
    position integer primary key autoincrement,
    number integer not null,
    first integer not null,
    last integer not null,
    -- The service whose commit brought them.
    service integer not null,
    data text not null
) strict;

create index of_task on events (number, first);

-- Transitions that no event tells of: append only.
create table notes (
    position integer primary key autoincrement,
    number integer not null,
    -- Seq of the first event that comes behind it.
    seq integer not null,
    source text,
    target text not null,
    actor text not null,
    reason text,
    time_us integer not null
) strict;

create index notes_of_task on notes (number);

-- Tasks that are to be cancelled where they run.
create index asked on tasks (service) where token > 0 and cancel is not null;

-- Tasks whose rows cannot be read (token -1), and why.
create table aside (
    number integer primary key,
    reason text not null,
    time_us integer not null
) strict;

-- Status 'gated' is 'pending' to everybody outside: due, and held back at a gate. With a time it has passed all of them and
-- waits for its turn in a rate. What relates tasks is in tables of its own: an index of tasks costs all of them.

-- Who waits for whose end: only between tasks that have not ended.
-- The occurrence of each schedule that has not ended.
create table schedules (
    id text primary key,
    number integer not null
) strict, without rowid;

create table edges (
    source integer not null,
    target integer not null,
    primary key (source, target)
) strict, without rowid;

create index edges_of on edges (target);

create table gates (
    key text primary key,
    -- How many may be claimed at once, null = any number.
    most integer,
    -- Microseconds between two tasks, 0 = no rate; how many may come at once; when the next would be due.
    interval_us integer not null,
    burst integer not null,
    tat_us integer not null default 0
) strict, without rowid;

-- Where each unfinished task stands at each of its gates, in order.
create table gated (
    number integer not null,
    level integer not null,
    gate text not null,
    bucket text not null,
    priority integer not null,
    -- 0 not there yet, 1 waits here, 2 has passed, 3 is claimed.
    state integer not null,
    primary key (number, level)
) strict, without rowid;

create index waiting_at_gate on gated (number) where state = 1;
create index at_gate on gated (gate, state, bucket, priority desc, number);

create table steps (
    number integer not null,
    name text not null,
    data text not null,
    primary key (number, name)
) strict, without rowid;
