-- Money that went out and is to come back: asked of Stripe with the same care as the transfer it belongs to.

create table reversals (
    id              text        primary key check (id like 'xrev\_%'),
    livemode        boolean     not null,
    transfer        text        not null references transfers (id),
    amount          bigint      not null check (amount > 0),
    currency        text        not null,
    reason          text,
    status          text        not null check (status in ('pending', 'reversed', 'failed')),
    waiting_on      text[]      not null default '{}',
    generation      integer     not null default 1 check (generation >= 1),
    created_by      text        not null,
    approved_by     text        check (approved_by <> created_by),
    approved_at     timestamptz,
    stripe_reversal text,
    failure_code    text,
    failure_message text,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    check (status = 'pending' or waiting_on = '{}'),
    check (status <> 'reversed' or stripe_reversal is not null),
    check ((approved_by is null) = (approved_at is null)),
    check ((failure_code is null) = (failure_message is null))
);
comment on table reversals is 'What was ordered to come back of a transfer; the books follow Stripe''s own count in transfers.amount_reversed';
comment on column reversals.amount is 'In minor units of the transfer''s currency';
comment on column reversals.generation is 'N of the idempotency key used now or next';
comment on column reversals.stripe_reversal is 'Its id at Stripe; while still pending, the transfer is to be fetched before the books follow';
comment on column reversals.failure_message is 'What Stripe last refused it with; it ends there only where the status is failed';
create index reversals_by_transfer on reversals (transfer, created_at, id);

create function reversals_keep_to_their_life() returns trigger language plpgsql as $$
begin
    if old.status <> 'pending' and old.status <> new.status then
        raise exception 'reversal % can not go from % to %', old.id, old.status, new.status
            using errcode = 'check_violation';
    end if;
    if (old.id, old.livemode, old.transfer, old.amount, old.currency, old.created_by, old.created_at)
        is distinct from (new.id, new.livemode, new.transfer, new.amount, new.currency, new.created_by, new.created_at)
    then
        raise exception 'reversal % keeps what was asked for', old.id using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger reversals_keep_to_their_life before update on reversals
    for each row execute function reversals_keep_to_their_life();

-- A reversal's keys and calls are kept like a transfer's, in the same tables.
alter table calls drop constraint calls_transfer_n_fkey;
alter table attempts drop constraint attempts_transfer_fkey;
alter table attempts rename column transfer to subject;
alter table calls rename column transfer to subject;
alter table attempts
    add column transfer text generated always as (case when subject like 'xfer\_%' then subject end) stored
        references transfers (id),
    add column reversal text generated always as (case when subject like 'xrev\_%' then subject end) stored
        references reversals (id),
    add check (num_nonnulls(transfer, reversal) = 1);
alter table calls add foreign key (subject, n) references attempts (subject, n);
alter index calls_by_transfer rename to calls_by_subject;
comment on table attempts is 'One row per idempotency key xfer_….N or xrev_….N: the frozen request and what is known of its outcome';
comment on column attempts.subject is 'The transfer or the reversal';
comment on column attempts.empty_look_ups is 'Complete look-ups since the last send that did not find what it should have made';
