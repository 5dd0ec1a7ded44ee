-- Tasks that relate to others. Each is one step; numbers come as a JSON list.

-- name: relate
update tasks set related = c.value ->> 1, schedule = c.value ->> 2, retry_of = c.value ->> 3
from json_each(?1) c where tasks.id = c.value ->> 0

-- name: queueable
select number, options from tasks where id in (select value from json_each(?1)) and status = 'created' and token = 0 order by number

-- name: known
select id, status, options, token, related from tasks where id = ?1

-- name: known_key
select id from tasks where dedup = ?1 and finished_us is null

-- name: needs_of
select s.id from edges e join tasks s on s.number = e.source where e.target = (select number from tasks where id = ?1)

-- name: block
update tasks set status = 'blocked', after_us = due_us, due_us = 0 where number in (select value from json_each(?1))

-- name: add_edges
insert or ignore into edges
select t.number, c.value ->> 0 from json_each(?1) c join tasks t on t.id = c.value ->> 1 where t.finished_us is null

-- name: ended_badly
select c.value ->> 0, t.id, t.status from json_each(?1) c join tasks t on t.id = c.value ->> 1
where t.finished_us is not null and t.status <> 'succeeded' and c.value ->> 2 order by c.key

-- name: dependents
select e.target, s.id, s.status, coalesce(t.options ->> 'on_dependency_failure', 'cancel') = 'cancel'
from json_each(?1) c join edges e on e.source = c.value join tasks s on s.number = e.source join tasks t on t.number = e.target
where t.token = 0 and t.status = 'blocked' order by e.target, e.source

-- name: cut_edges
delete from edges where source in (select value from json_each(?1))

-- name: cut_edges_to
delete from edges where target in (select value from json_each(?1))

-- name: free_of_edges
select json_group_array(value) from json_each(?1) where not exists (select 1 from edges where target = value)

-- name: unblock
update tasks set status = case when after_us > 0 then 'scheduled' when related & 1 then 'gated' else 'pending' end,
    due_us = after_us, after_us = iif(related & 4, after_us, 0)
where number in (select value from json_each(?1))

-- name: note_free
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, 'blocked', 'pending', 'engine', ?2, ?3 from tasks
where number in (select value from json_each(?1)) and related & 8

-- name: note_not_yet
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, 'pending', 'scheduled', 'engine', ?2, ?3 from tasks
where number in (select value from json_each(?1)) and related & 8 and after_us > 0

-- name: note_pushed
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, 'created', case when related & 8 then 'blocked' when due_us > 0 then 'scheduled' else 'pending' end,
       'client', 'pushed', ?2
from tasks where id in (select value from json_each(?1)) and status = 'created' and token = 0

-- name: note_retry
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, 'created', case when related & 8 then 'blocked' else 'pending' end, 'operator', ?2, ?3
from tasks where id = ?1

-- name: note_retried
insert into notes (number, seq, source, target, actor, reason, time_us)
select number, next_seq, status, status, 'operator', ?2, ?3 from tasks where id = ?1

-- name: still_gated
select json_group_array(number) from tasks where number in (select value from json_each(?1)) and status = 'gated'

-- name: doom
update tasks set status = 'pending', cancel = ?2, due_us = 0, after_us = 0 where number = ?1 returning id

-- name: standing_of
select status, related, token, due_us from tasks where number = ?1

-- name: number_of
select number from tasks where id = ?1

-- name: plain_one
select status <> 'blocked' and not related & 1 from tasks where number = ?1

-- name: update_related
update tasks set priority = coalesce(?2, priority),
    due_us = iif(status = 'blocked', 0, coalesce(?3, iif(status = 'gated', 0, due_us))),
    after_us = iif(status = 'blocked', coalesce(?3, after_us), after_us),
    status = case when status in ('created', 'blocked') then status
                  when coalesce(?3, iif(status = 'gated', 0, due_us)) = 0 then 'gated'
                  when status in ('retrying', 'scheduled') then status else 'scheduled' end
where number = ?1

-- name: update_gated
update gated set priority = (select priority from tasks where tasks.number = ?1) where number = ?1

-- name: occurrence
select coalesce(t.payload, (select payload from arguments a where a.number = t.number)), t.name, t.function, t.form,
       t.id, t.options, t.after_us, t.trace, t.schedule, t.status, t.finished_us
from tasks t where t.number = ?1

-- name: occurrence_of
select t.id from schedules s join tasks t on t.number = s.number where s.id = ?1

-- name: occurrence_after
select id from tasks indexed by of_schedule
where schedule = ?1 and schedule is not null and number > (select number from tasks where id = ?2) order by number limit 1

-- name: stuck
with recursive above(id, number) as (
    select t.id, t.number from json_each(?1) c join tasks t on t.id = c.value
    union
    select above.id, e.source from above join edges e on e.target = above.number
)
select json_group_array(distinct above.id) from above join tasks t on t.number = above.number
where t.token = 0 and (t.status = 'created' or (t.schedule is not null and t.status = 'scheduled' and t.due_us > ?2))

-- name: end_schedule
delete from schedules where id = ?1

-- name: occurs
insert or replace into schedules select t.schedule, t.number from json_each(?1) c join tasks t on t.id = c.value ->> 0
where t.schedule is not null

-- name: keep_steps
insert or replace into steps select c.value ->> 0, c.value ->> 1, c.value ->> 2 from json_each(?1) c

-- name: has_steps
update tasks set related = related | 2 where number in (select value from json_each(?1))

-- name: steps_of
select name, data from steps where number = ?1

-- name: forget_steps
delete from steps where number in (select value from json_each(?1))

-- name: any_gates
select exists (select 1 from gates)

-- name: bound
insert into gates (key, most, interval_us, burst) values (?1, ?2, ?3, ?4)
on conflict (key) do update set most = excluded.most, interval_us = excluded.interval_us, burst = excluded.burst
where most is not excluded.most or interval_us <> excluded.interval_us or burst <> excluded.burst

-- name: forget_turn
update gates set tat_us = min(tat_us, ?2 + interval_us) where key = ?1

-- name: turns_again
update tasks set status = 'pending', due_us = 0
where status = 'gated' and due_us > 0 and token = 0 and number in (select number from gated where gate = ?1 and state = 2)

-- name: rebound
update gates set most = coalesce(?2, most), interval_us = coalesce(?3, interval_us), burst = coalesce(?4, burst)
where key = ?1 and (most is not coalesce(?2, most) or interval_us <> coalesce(?3, interval_us) or burst <> coalesce(?4, burst))

-- name: stand
insert or ignore into gated
select t.number, c.value ->> 1, c.value ->> 2, t.bucket, t.priority, 0 from json_each(?1) c join tasks t on t.id = c.value ->> 0

-- name: enter
update gated set state = (level = 0) where number in (select value from json_each(?1))

-- name: first_gates
select json_group_array(distinct gate) from gated where level = 0 and number in (select value from json_each(?1))

-- name: gate
select most, interval_us, burst, (select count(*) from gated where gate = ?1 and state = 3) from gates where key = ?1

-- name: waiting_buckets
with recursive found(bucket) as (
    select min(bucket) from gated where gate = ?1 and state = 1
    union all
    select (select min(bucket) from gated where gate = ?1 and state = 1 and bucket > found.bucket)
    from found where found.bucket is not null
)
select json_group_array(bucket) from found where bucket is not null

-- name: passed
select count(*) from gated where gate = ?1 and state = 2 and bucket = ?2

-- name: best_waiting
select priority, number, level from gated where gate = ?1 and state = 1 and bucket = ?2 order by priority desc, number limit 1

-- name: worst_passed
select priority, number, level from gated where gate = ?1 and state = 2 and bucket = ?2 order by priority, number desc limit 1

-- name: gate_state
update gated set state = ?3 where number = ?1 and level = ?2

-- name: gate_at
select gate from gated where number = ?1 and level = ?2

-- name: ready
update tasks set status = 'pending' where number = ?1

-- name: passed_from
select json_group_array(gate) from gated where number = ?1 and level >= ?2 and state = 2

-- name: step_back
update gated set state = (level = ?2) where number = ?1 and level >= ?2

-- name: hold_back
update tasks set status = 'gated', due_us = ?2 where number = ?1

-- name: gates_of
select d.level, d.gate, g.most, g.interval_us, g.burst, g.tat_us,
       iif(g.most is null, 0, (select count(*) from gated r where r.gate = d.gate and r.state = 3)), d.state
from gated d join gates g on g.key = d.gate where d.number = ?1 order by d.level

-- name: take_places
update gated set state = 3 where number = ?1

-- name: rate
update gates set tat_us = ?2 where key = ?1

-- name: leave_gates
update gated set state = 0 where number = ?1

-- name: forget_gates
delete from gated where number in (select value from json_each(?1))

-- name: forget_locks
delete from gates where key in (select value from json_each(?1)) and key >= 'lock:' and key < 'lock;'
    and not exists (select 1 from gated where gate = gates.key)

-- name: related_of
select number, attempt from tasks where number in (select value from json_each(?1)) and related & 7

-- name: due_gated
select json_group_array(number) from tasks indexed by timed
where due_us > 0 and due_us <= ?1 and token = 0 and finished_us is null and status in ('scheduled', 'retrying') and related & 1

-- name: now_gated
update tasks set status = 'gated', due_us = 0 where number in (select value from json_each(?1))

-- name: requeued
select json_group_array(number) from tasks
where number in (select value from json_each(?1)) and token = 0 and status = 'pending' and related & 1 and cancel is null

-- name: waits
select number, status, due_us, after_us, token, service, cancel, priority from tasks where id = ?1

-- name: holders_of
select t.id from gated g indexed by at_gate join tasks t on t.number = g.number where g.gate = ?1 and g.state = 3 limit ?2

-- name: before_at_gate
select count(*) from gated indexed by at_gate
where gate = ?1 and state = 1 and (priority > ?2 or (priority = ?2 and number < ?3))

-- name: claims_of_service
select count(*) from tasks indexed by held where token > 0 and service = ?1
