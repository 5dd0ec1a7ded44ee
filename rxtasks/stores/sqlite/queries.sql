-- Each takes a whole batch as one JSON document and is one step of SQLite's: the interpreter's lock is given away once a batch.

-- name: known_ids
select json_group_array(json_array(c.key, t.number, t.status, t.token, t.related)) from json_each(?1) c join tasks t on t.id = c.value

-- name: newest
select coalesce(max(number), 0) from tasks

-- name: known_keys
select json_group_array(json_array(c.key, t.id, t.status, t.token, t.related)) from json_each(?1) c
join tasks t on t.dedup = c.value and t.finished_us is null where c.value is not null

-- name: enqueue
insert or ignore into tasks (id, name, function, form, payload, options, bucket, priority, status, due_us, created_us, trace, dedup)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
       value ->> 9, value ->> 10, value ->> 11, value ->> 12
from json_each(?1)

-- name: enqueue_arguments
insert into arguments select t.number, c.value ->> 1 from json_each(?1) c join tasks t on t.id = c.value ->> 0

-- name: queue_created
update tasks set status = iif(due_us > 0, 'scheduled', 'pending') where id = ?1 and status = 'created' and token = 0

-- name: buckets
with recursive found(bucket) as (
    select min(bucket) from tasks indexed by waiting where status = 'pending' and token = 0
    union all
    select (select min(bucket) from tasks indexed by waiting where status = 'pending' and token = 0 and bucket > found.bucket)
    from found where found.bucket is not null
)
select json_group_array(bucket) from found where bucket is not null

-- name: look
with firsts as (
    -- Each by itself is one step in the index; min and max together read all of it.
    select (select min(bucket) from tasks indexed by waiting where status = 'pending' and token = 0) as bucket,
           (select max(bucket) from tasks indexed by waiting where status = 'pending' and token = 0) as last
)
select json_array(
    (select min(due_us) from tasks indexed by timed
     where due_us > 0 and token = 0 and finished_us is null and status <> 'created'),
    (select bucket from firsts),
    (select last from firsts),
    json((select json_group_array(json_array(
        number, id, name, function, form,
        (select iif(t.form <> 't' or json_valid(p), p, null)
         from (select coalesce(t.payload, (select payload from arguments a where a.number = t.number)) as p)),
        options, created_us, trace, attempt, failures, crashes, interruptions, next_seq, status, checkpoint, cancel,
        related, schedule
    )) from (
        select * from tasks indexed by waiting where status = 'pending' and token = 0 and bucket = (select bucket from firsts)
        order by priority desc, number limit ?1
    ) t)),
    (select value from meta where name = 'fence')
)

-- name: first
select json_group_array(json_array(-priority, number)) from (
    select priority, number from tasks indexed by waiting where status = 'pending' and token = 0 and bucket = ?1
    order by priority desc, number limit ?2
)

-- name: ripen
update tasks set due_us = 0, status = 'pending'
where due_us > 0 and due_us <= ?1 and token = 0 and finished_us is null and status <> 'created'

-- name: next_due
select min(due_us) from tasks indexed by timed
where due_us > 0 and token = 0 and finished_us is null and status <> 'created'

-- name: fence
update meta set value = value + ?1 where name = 'fence' returning value

-- name: claimed
select json_group_array(json_array(
    t.number, t.id, t.name, t.function, t.form,
    (select iif(t.form <> 't' or json_valid(p), p, null)
     from (select coalesce(t.payload, (select payload from arguments a where a.number = t.number)) as p)),
    t.options, t.created_us, t.trace, t.attempt, t.failures, t.crashes, t.interruptions, t.next_seq, t.status, t.checkpoint, t.cancel,
    t.related, t.schedule
)) from json_each(?1) c join tasks t on t.number = c.value

-- name: hold
update tasks set token = ?2 + c.key + 1, service = ?3
from json_each(?1) c where tasks.number = c.value

-- name: waiting_one
select number from tasks
where id = ?1 and token = 0 and status in ('created', 'pending', 'scheduled', 'blocked', 'retrying', 'gated')

-- name: standing
select number, token, service, finished_us is not null from tasks where id = ?1

-- name: ask_cancel
update tasks set cancel = ?2 where number = ?1 and cancel is null

-- name: refused
select json_group_array(c.value ->> 0) from json_each(?1) c
where not exists (select 1 from tasks t where t.number = c.value ->> 1 and t.token = c.value ->> 0)

-- name: commit
update tasks set
    status = c.value ->> 2, attempt = c.value ->> 3, failures = c.value ->> 4, crashes = c.value ->> 5,
    interruptions = c.value ->> 6, next_seq = c.value ->> 7, worker = c.value ->> 8,
    started_us = coalesce(c.value ->> 9, started_us), finished_us = c.value ->> 10,
    token = iif(c.value ->> 11, 0, token), service = iif(c.value ->> 11, 0, service), due_us = c.value ->> 12,
    value = c.value ->> 13, stored = c.value ->> 14, error = coalesce(c.value ->> 15, iif(c.value ->> 10, null, error)),
    progress = coalesce(c.value ->> 16, progress),
    checkpoint = iif(c.value ->> 10, null, coalesce(c.value ->> 17, checkpoint))
from json_each(?1) c
where tasks.number = c.value ->> 1 and tasks.token = c.value ->> 0

-- name: events
insert into events (number, first, last, service, data)
select value ->> 0, value ->> 1, value ->> 2, ?2, value ->> 3 from json_each(?1)

-- name: pending
select (select count(*) from (select 1 from tasks indexed by waiting where status = 'pending' and token = 0 limit ?1))
    + (select count(*) from (select 1 from gated indexed by waiting_at_gate where state = 1 limit ?1))

-- name: head
select t.priority, max(t.created_us, coalesce(t.started_us, 0),
                       coalesce((select max(time_us) from notes n where n.number = t.number), 0))
from tasks t where t.number = (
    select number from tasks indexed by waiting
    where status = 'pending' and token = 0 and bucket = ?1 and priority < ?2
    order by priority desc, number limit 1
)

-- name: blocked
select count(*) from (select distinct target from edges limit ?1)

-- name: scheduled
select count(*) from (
    select 1 from tasks indexed by timed where due_us > 0 and token = 0 and finished_us is null and status <> 'created' limit ?1
)

-- name: waiting
select json_group_array(id) from tasks
where token = 0 and finished_us is null and status in ('pending', 'scheduled', 'blocked', 'retrying', 'gated')

-- name: request
select name, function, form, coalesce(payload, (select payload from arguments a where a.number = t.number)), options,
       created_us, trace
from tasks t where id = ?1

-- name: retries
select json_group_array(json_array(retry_of, id)) from (
    select retry_of, id from tasks indexed by retried
    where retry_of in (select value from json_each(?1)) and retry_of is not null order by number
)

-- name: first_pending
select id from tasks indexed by waiting where status = 'pending' and token = 0 limit ?1

-- name: first_gated
select t.id from gated g indexed by waiting_at_gate join tasks t on t.number = g.number where g.state = 1 limit ?1

-- name: first_sent
select id from tasks indexed by held where token > 0 and status = 'pending' limit ?1

-- name: first_blocked
select t.id from (select distinct target from edges limit ?1) e join tasks t on t.number = e.target

-- name: first_timed
select id from (
    select id, status from tasks indexed by timed where due_us > 0 and token = 0 and finished_us is null order by due_us limit ?2
) where status = ?1 limit ?3

-- name: begin_with
select id from tasks where id >= ?1 and id < ?2 order by id limit ?3

-- name: end_with
select id from tasks where substr(id, -length(?1)) = ?1 limit ?2

-- name: tally
select status, count(*) from tasks group by status

-- name: ended_ones
select number, id from tasks where id in (select value from json_each(?1)) and (finished_us is not null or token = -1)

-- name: ending
select status, value, stored, error from tasks where id = ?1 and finished_us is not null

-- name: task_events
select e.first, e.last, cast(e.data as blob) from events e join tasks t on t.number = e.number
where t.id = ?1 and e.last >= ?2 order by e.first limit ?3

-- name: events_after
select e.position, t.id, e.service, e.data from events e join tasks t on t.number = e.number
where e.position > ?1 order by e.position limit ?2

-- name: last_position
select coalesce(max(position), 0) from events

-- name: update_waiting
update tasks set priority = coalesce(?2, priority), due_us = coalesce(?3, due_us),
    status = case when status = 'created' then status when coalesce(?3, due_us) = 0 then 'pending'
                  when status in ('retrying', 'scheduled') then status else 'scheduled' end
where id = ?1 and token = 0 and status in ('created', 'pending', 'scheduled', 'blocked', 'retrying')

-- name: delete_events
delete from events where number in (select number from tasks where id = ?1 and (finished_us is not null or token = -1))

-- name: delete_notes
delete from notes where number in (select number from tasks where id = ?1 and (finished_us is not null or token = -1))

-- name: delete_arguments
delete from arguments where number in (select number from tasks where id = ?1 and (finished_us is not null or token = -1))

-- name: delete
delete from tasks where id = ?1 and (finished_us is not null or token = -1)

-- name: note
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, ?2, ?3, ?4, ?5, ?6 from tasks where id = ?1

-- name: note_ripe
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, status, 'pending', 'engine', 'its time has come', ?1 from tasks
where due_us > 0 and due_us <= ?1 and token = 0 and finished_us is null and status not in ('created', 'gated')

-- name: status
select iif(status = 'gated', 'pending', status) from tasks where id = ?1

-- name: history
select seq, source, target, actor, reason, time_us from notes where number = (select number from tasks where id = ?1)
order by position

-- name: join
insert into services (id, pid, host, boot, lease_ns, started_us) values (?1, ?2, ?3, ?4, ?5, ?6) returning number

-- name: renew
update services set lease_ns = ?2 where number = ?1

-- name: part
delete from services where number = ?1

-- name: present
select 1 from services where number = ?1

-- name: services
select number, id, pid, host, boot, lease_ns from services

-- name: orphaned
with recursive holders(service) as (
    select min(service) from tasks indexed by held where token > 0
    union all
    select (select min(service) from tasks indexed by held where token > 0 and service > holders.service)
    from holders where holders.service is not null
)
select service from holders
where service is not null and not exists (select 1 from services s where s.number = holders.service)

-- name: orphans
select number, token, id, status, attempt, failures, crashes, interruptions, next_seq, worker, due_us, cancel
from tasks indexed by held where token > 0 and service = ?1 limit ?2

-- name: orphan_numbers
select number from tasks indexed by held where token > 0 and service = ?1 limit ?2

-- name: orphan
select number, token, id, status, attempt, failures, crashes, interruptions, next_seq, worker, due_us, cancel
from tasks where number = ?1

-- name: asked
select id, token, cancel from tasks indexed by asked where token > 0 and cancel is not null and service = ?1

-- name: events_of_others
select e.position, t.id, e.service, e.first, e.last, cast(e.data as blob)
from events e join tasks t on t.number = e.number
where e.position > ?1 and e.position <= ?2 and e.service <> ?3 order by e.position

-- name: data_version
pragma data_version

-- name: unanswered
select number, token, id, status, attempt, failures, crashes, interruptions, next_seq, worker, due_us, cancel
from tasks indexed by held where token > 0 and service = ?1 and token not in (select value from json_each(?2))

-- name: unanswered_numbers
select number from tasks indexed by held
where token > 0 and service = ?1 and token not in (select value from json_each(?2))

-- name: logged
select json_group_array(c.key) from json_each(?1) c where exists (
    select 1 from events e
    where e.number = c.value ->> 0 and e.first = c.value ->> 1 and e.data = c.value ->> 3
)

-- name: next_numbers
select number from tasks indexed by waiting where status = 'pending' and token = 0
and bucket = (select min(bucket) from tasks indexed by waiting where status = 'pending' and token = 0)
order by priority desc, number limit ?1

-- name: set_aside
insert or replace into aside (number, reason, time_us) values (?1, ?2, ?3)

-- name: out_of_hands
update tasks set token = -1, service = 0 where number = ?1

-- name: into_hands
update tasks set token = 0, service = 0 where number = ?1 and token = -1

-- name: not_aside
delete from aside where number = ?1

-- name: aside_one
select a.number from aside a join tasks t on t.number = a.number where t.id = ?1

-- name: id_of
select cast(id as blob) from tasks where number = ?1

-- name: note_of
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, status, status, ?2, ?3, ?4 from tasks where number = ?1

-- name: damaged
select t.id, cast(t.name as blob), a.reason, a.time_us from aside a join tasks t on t.number = a.number order by a.number limit ?1

-- name: count_damaged
select count(*) from aside

-- name: delete_aside
delete from aside where number in (select number from tasks where id = ?1)

-- name: last_event
select status, next_seq, attempt, finished_us from tasks where id = ?1

-- name: old
select number, id from tasks indexed by ended where finished_us is not null and finished_us < ?1 order by finished_us limit ?2

-- name: prune_events
delete from events where position in (select position from events where number = ?1 limit ?2)

-- name: prune_notes
delete from notes where number = ?1

-- name: prune_arguments
delete from arguments where number = ?1

-- name: prune_aside
delete from aside where number = ?1

-- name: prune_tasks
delete from tasks where number = ?1

-- name: check_unknown_services
select cast(id as blob) from tasks indexed by held
where token > 0 and service <> 0 and service not in (select number from services) limit ?1

-- name: check_ended_claims
select cast(id as blob) from tasks where finished_us is not null and token <> 0 limit ?1

-- name: check_gaps
select cast(t.id as blob) from (
    select number, first, lag(last) over (partition by number order by first) as before from events
) e join tasks t on t.number = e.number
where e.first <> coalesce(e.before + 1, 1) group by t.number limit ?1

-- name: check_last_seq
select cast(t.id as blob) from tasks t
where t.next_seq <> 1 + coalesce((select max(last) from events e where e.number = t.number), 0) limit ?1

-- name: check_terminal
select cast(id as blob) from tasks where (status in ('succeeded', 'failed', 'cancelled')) <> (finished_us is not null) limit ?1

-- name: check_lost_arguments
select cast(id as blob) from tasks t
where payload is null and finished_us is null and not exists (select 1 from arguments a where a.number = t.number) limit ?1

-- name: check_orphan_events
select count(*) from events where number not in (select number from tasks)

-- name: check_orphan_notes
select count(*) from notes where number not in (select number from tasks)

-- name: check_orphan_arguments
select count(*) from arguments where number not in (select number from tasks)

-- name: check_events
select e.position, cast(t.id as blob), e.first, e.last, cast(e.data as blob)
from events e join tasks t on t.number = e.number where e.position > ?1 order by e.position limit ?2

-- name: check_tasks
select number, cast(id as blob), cast(iif(form = 't', payload, null) as blob), cast(options as blob), cast(value as blob),
       cast(error as blob), cast(progress as blob)
from tasks where number > ?1 order by number limit ?2
