-- Fresh events are applied many at a time, straight from the order of their ids; what needs a lease stands alone.

alter table tasks add column alone boolean not null default true;
comment on column tasks.alone is 'Claimed by itself, with a lease: a timer, and an event that could not be applied among others. All other events are applied many at a time, under the lock of their rows';

-- Most rows are events that come and go within milliseconds: they need no second index.
drop index tasks_due;
create index tasks_due on tasks (livemode, run_at) where alone;
create index tasks_held on tasks (holder) where token is not null;
