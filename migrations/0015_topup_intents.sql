-- Top-ups that were ordered here: the intent stands before Stripe is asked, so that the bank is never debited twice.

create table topup_intents (
    id                   text        primary key check (id like 'tpi\_%'),
    livemode             boolean     not null,
    status               text        not null check (status in ('open', 'absent', 'refused', 'created')),
    amount               bigint      not null check (amount > 0),
    currency             text        not null check (currency ~ '^[a-z]{3}$'),
    description          text,
    statement_descriptor text        check (length(statement_descriptor) <= 15),
    source               text,
    transfer_group       text,
    metadata             jsonb       not null,
    created_by           text        not null,
    idempotency_key      text        not null,
    generation           integer     not null default 1 check (generation >= 1),
    topup                text,
    refusal_status       integer,
    refusal_code         text,
    refusal_param        text,
    refusal_message      text,
    created_at           timestamptz not null,
    updated_at           timestamptz not null,
    unique (livemode, topup),
    foreign key (livemode, topup) references topups (livemode, topup),
    check ((topup is not null) = (status = 'created')),
    check ((status = 'refused') = (refusal_status is not null)),
    check ((refusal_status is null) = (refusal_message is null)),
    check (refusal_status is not null or num_nonnulls(refusal_code, refusal_param) = 0)
);
comment on table topup_intents is 'Each top-up that was ordered here, stored before Stripe was asked, and what came of it';
comment on column topup_intents.status is 'open: its outcome is not known; absent: look-ups proved that nothing was made; refused: Stripe said no; created: it is a top-up';
comment on column topup_intents.amount is 'In minor units of currency';
comment on column topup_intents.generation is 'N of the Idempotency-Key tpi_….N that is used now or next';
comment on column topup_intents.refusal_param is 'Which parameter Stripe complained of';
-- A refusal gives the caller's key free: what is ordered with it next is another intent.
create unique index topup_intents_by_key on topup_intents (idempotency_key) where status <> 'refused';
create index topup_intents_open on topup_intents (livemode, id) where status in ('open', 'absent');

create function topup_intents_keep_to_their_life() returns trigger language plpgsql as $$
begin
    if old.status <> new.status and not (case old.status
        when 'open' then true
        when 'absent' then new.status in ('open', 'created')
        when 'refused' then new.status = 'created'
        else false end)
    then
        raise exception 'top-up intent % can not go from % to %', old.id, old.status, new.status
            using errcode = 'check_violation';
    end if;
    if new.generation < old.generation or (old.topup is not null and new.topup is distinct from old.topup)
        or (old.id, old.livemode, old.amount, old.currency, old.metadata, old.created_by, old.idempotency_key, old.created_at)
            is distinct from
            (new.id, new.livemode, new.amount, new.currency, new.metadata, new.created_by, new.idempotency_key, new.created_at)
        or (old.description, old.statement_descriptor, old.source, old.transfer_group)
            is distinct from (new.description, new.statement_descriptor, new.source, new.transfer_group)
    then
        raise exception 'top-up intent % keeps what was asked for', old.id using errcode = 'check_violation';
    end if;
    return new;
end $$;
comment on function topup_intents_keep_to_their_life is 'The same table as domain::topup::intent::Status::may_become; a test compares them';
create trigger topup_intents_keep_to_their_life before update on topup_intents
    for each row execute function topup_intents_keep_to_their_life();

-- An intent's keys and calls are kept like a transfer's, in the same tables.
do $$
declare
    held text;
begin
    select conname into strict held from pg_constraint
        where conrelid = 'attempts'::regclass and contype = 'c' and pg_get_constraintdef(oid) like '%num_nonnulls(transfer, reversal)%';
    execute format('alter table attempts drop constraint %I', held);
end $$;
alter table attempts
    add column topup_intent text generated always as (case when subject like 'tpi\_%' then subject end) stored
        references topup_intents (id),
    add constraint attempts_of_one_thing check (num_nonnulls(transfer, reversal, topup_intent) = 1);
comment on table attempts is 'One row per idempotency key xfer_….N, xrev_….N or tpi_….N: the frozen request and what is known of its outcome';
comment on column attempts.subject is 'The transfer, the reversal or the top-up intent';

create index topups_by_mark on topups (livemode, right(metadata ->> 'sluicegate_topup', 12))
    where metadata ? 'sluicegate_topup';
comment on index topups_by_mark is 'The end of an intent''s id follows from the caller''s Idempotency-Key: after a restore a repeated order finds what was made for it';
