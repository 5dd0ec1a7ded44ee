-- The ended task that an operator's retry repeats, and from there to its retries. Partial: other tasks pay nothing for it.
alter table tasks add column retry_of text;

create index retried on tasks (retry_of, number) where retry_of is not null;
