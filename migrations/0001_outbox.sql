-- The outbox: what Stripe told, as evidence. Rows are written once and never changed.

create sequence outbox_seq;
-- Starts at 2, so that "everything received before" can be asked for with 1 on an empty outbox.
select setval('outbox_seq', 1);

create table outbox (
    event_id      text        not null check (length(event_id) between 1 and 255),
    created       timestamptz not null,
    seq           bigint      not null default nextval('outbox_seq'),
    source        text        not null check (source in ('webhook', 'api')),
    kind          text        not null check (kind in ('snapshot', 'thin', 'observation')),
    type          text        not null,
    account       text,
    subject_kind  text,
    subject       text,
    livemode      boolean     not null,
    api_version   text,
    ignored       text,
    received_at   timestamptz not null,
    observed_from timestamptz,
    after_seq     bigint,
    signature     text,
    secret_label  text,
    payload       bytea       not null,
    primary key (event_id, created),
    check ((source = 'webhook') = (signature is not null)),
    check ((kind = 'observation') = (observed_from is not null and after_seq is not null)),
    check ((subject is null) = (subject_kind is null))
) partition by range (created);

comment on table outbox is 'Every event and every answer of Stripe''s API, as received; partitioned by the event''s own created, which is fixed for an id, so that the primary key dedupes across partitions';
comment on column outbox.event_id is 'Stripe''s event id, or obs_… for an answer of Stripe''s API';
comment on column outbox.created is 'The event''s own created (whole seconds for snapshots), or when the observing call began; 1970-01-01 where the event had none that can be read';
comment on column outbox.seq is 'Order of receipt';
comment on column outbox.account is 'The connected account the event came from; null for the platform''s own';
comment on column outbox.subject is 'Whom the event is about: an account, a top-up, a transfer, a currency';
comment on column outbox.ignored is 'Why nothing is done with it; null when it is acted on';
comment on column outbox.observed_from is 'When the observing call began; null for events';
comment on column outbox.after_seq is 'The last seq handed out when the observing call began: it outranks what was received up to there';
comment on column outbox.signature is 'The Stripe-Signature header as received, so that the payload can be verified again';
comment on column outbox.payload is 'The raw bytes, exactly as received';

-- pglz, the default, is half the cost of a batched insert; lz4 is not compiled into every server.
do $$
begin
    alter table outbox alter column payload set compression lz4;
exception when feature_not_supported then
    raise notice 'this server lacks lz4; payloads are compressed with pglz';
end $$;

create index outbox_seq_idx on outbox (seq);

create table outbox_default partition of outbox default;
comment on table outbox_default is 'Events whose created lies outside every weekly partition: very old, far ahead, or unreadable';

-- Makes the weekly partitions from 5 weeks before the given instant (Stripe re-sends for 30 days) to 4 after it.
create function outbox_ensure_partitions(around timestamptz) returns integer language plpgsql as $$
declare
    week timestamptz := date_trunc('week', around at time zone 'UTC') at time zone 'UTC' - interval '5 weeks';
    made integer := 0;
    name text;
begin
    -- Replicas that start together take turns.
    perform pg_advisory_xact_lock(hashtextextended('outbox_ensure_partitions', 0));
    for _ in 1..10 loop
        name := 'outbox_' || to_char(week at time zone 'UTC', 'YYYYMMDD');
        if to_regclass(name) is null then
            begin
                execute format('create table %I partition of outbox for values from (%L) to (%L)', name, week, week + interval '7 days');
                made := made + 1;
            exception when check_violation then
                -- The default partition already holds rows of that week: they, and the week, stay there.
                raise notice 'week % stays in the default partition', name;
            end;
        end if;
        week := week + interval '7 days';
    end loop;
    return made;
end $$;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger outbox_is_immutable before update on outbox for each row execute function refuse_change();

create table quarantine (
    id           bigint generated always as identity primary key,
    received_at  timestamptz not null,
    secret_label text,
    signature    text        not null,
    problem      text        not null,
    payload      bytea       not null
);
comment on table quarantine is 'Bodies with a good signature that are no Stripe events; the newest thousand are kept';

create table tasks (
    id            bigint      primary key default nextval('outbox_seq'),
    kind          text        not null,
    subject       text        not null,
    livemode      boolean     not null,
    event_id      text,
    event_created timestamptz,
    received_at   timestamptz,
    run_at        timestamptz not null,
    next_at       timestamptz,
    attempts      integer     not null default 0,
    token         uuid,
    holder        integer,
    failure       text,
    check ((event_id is null) = (event_created is null)),
    check ((event_id is null) = (received_at is null)),
    check ((token is null) = (holder is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

comment on table tasks is 'The bells: work to do, deleted when done. A row is either one event''s (its id is the event''s seq) or a subject''s timer';
comment on column tasks.event_id is 'The event''s key in the outbox. No foreign key: one statement writes both rows, and a check per row is dear on the path every delivery takes';
comment on column tasks.received_at is 'When the event was received, for the lag: run_at moves with every retry';
comment on column tasks.run_at is 'When it is due; while a lease is held (token is set), when the lease ends';
comment on column tasks.next_at is 'The earliest ring that arrived during the lease; null if none did';
comment on column tasks.token is 'Fencing token of the lease; null when nobody holds it';
comment on column tasks.holder is 'Which process holds the lease: the advisory lock it keeps for as long as it lives';
comment on column tasks.failure is 'Why the last attempt did not finish';

create index tasks_due on tasks (livemode, run_at);
create unique index tasks_timer_once on tasks (kind, subject, livemode) where event_id is null;

create table dead_letters (
    id            bigint      primary key,
    kind          text        not null,
    subject       text        not null,
    livemode      boolean     not null,
    event_id      text        not null,
    event_created timestamptz not null,
    attempts      integer     not null,
    reason        text        not null,
    died_at       timestamptz not null
);
comment on table dead_letters is 'Events that could not be applied through a fault of their own, until they are replayed';
comment on column dead_letters.event_id is 'The event''s key in the outbox. No foreign key: it would forbid to drop a partition';
create index dead_letters_event on dead_letters (event_id);
