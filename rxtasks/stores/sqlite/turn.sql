-- A whole turn of the writer as one statement: what was brought, what has changed, what is claimed.
--
-- Each statement that Python runs gives the interpreter's lock away and has to get it back, which on a busy service takes ten
-- times as long as the statement. So the three that every task needs are one: an insert into a view whose trigger does them, in
-- a transaction of its own. Each part is a JSON document, null where there is nothing of its kind. What is out of the
-- ordinary (a task that is known already, a claim that was lost) fails the whole turn, and is done the long way
-- (queries.sql). What stands in braces is the statement of that name there, reading its document from the turn.
create temp view turn as select
    null as tasks, null as arguments, null as changes, null as events, null as claims, null as fence, null as service;

create temp trigger turning instead of insert on turn begin
    insert into tasks (
        id, name, function, form, payload, options, bucket, priority, status, due_us, created_us, trace, dedup
    )
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
           value ->> 9, value ->> 10, value ->> 11, value ->> 12
    from json_each(new.tasks);

    insert into arguments
    select t.number, c.value ->> 1 from json_each(new.arguments) c join tasks t on t.id = c.value ->> 0;

    select raise(rollback, 'a claim was lost') where exists (
        select 1 from json_each(new.changes) c
        where not exists (select 1 from tasks t where t.number = c.value ->> 1 and t.token = c.value ->> 0)
    );

    select raise(rollback, 'others depend on one that ends') where exists (select 1 from edges) and exists (
        select 1 from json_each(new.changes) c join edges e on e.source = c.value ->> 1 where c.value ->> 10 is not null
    );

    {commit};

    insert into events (number, first, last, service, data)
    select value ->> 0, value ->> 1, value ->> 2, new.service, value ->> 3 from json_each(new.events);

    select raise(rollback, 'a task was claimed by others') where new.claims is not null and (
        not exists (select 1 from meta where name = 'fence' and value = new.fence)
        -- Taken for dead by others: what it claimed would be nobody's.
        or (new.service > 0 and not exists (select 1 from services where number = new.service))
        or exists (
            select 1 from json_each(new.claims) c join tasks t on t.number = c.value
            where t.token <> 0 or t.status <> 'pending'
        )
    );

    update meta set value = value + json_array_length(new.claims) where new.claims is not null and name = 'fence';

    update tasks set token = new.fence + c.key + 1, service = new.service
    from json_each(new.claims) c where tasks.number = c.value;
end;
