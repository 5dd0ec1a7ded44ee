-- From an occurrence of a schedule to the one behind it. Partial: tasks without a schedule pay nothing for it.
create index of_schedule on tasks (schedule, number) where schedule is not null;
