-- A database restored from a backup has forgotten what was paid since: it says so by an old heartbeat.

create table heartbeats (
    livemode       boolean     primary key,
    at             timestamptz not null,
    catch_up_from  timestamptz,
    catch_up_after text,
    catch_up_seen  bigint      not null default 0,
    check (catch_up_from is not null or catch_up_after is null)
);
comment on table heartbeats is 'When the service last ran on this database, to the minute, and what it has to learn before it pays again';
comment on column heartbeats.catch_up_from is 'Nothing is released until all of Stripe''s transfers since then were matched';
comment on column heartbeats.catch_up_after is 'How far down Stripe''s list that has come: the last transfer of the last page, newest first';

create index transfers_adopted_by_mark on transfers (right(id, 12)) where created_by = 'sluicegate';
comment on index transfers_adopted_by_mark is 'The end of an id follows from the caller''s Idempotency-Key: a repeated request finds what was taken in again';
