-- Money: transfers, what was sent to Stripe for them, and the double-entry ledger.

create table release_controls (
    livemode  boolean     primary key,
    paused    boolean     not null,
    cause     text,
    paused_by text,
    at        timestamptz not null,
    check (not paused or (cause is not null and paused_by is not null))
);
comment on table release_controls is 'The emergency stop of all releases';
comment on column release_controls.paused_by is 'An API key''s id, or sluicegate where Stripe refused our configuration';

create table funds (
    livemode         boolean     not null,
    currency         text        not null check (currency ~ '^[a-z]{3}$'),
    stopped_at       timestamptz,
    stop_checks      integer     not null default 0,
    stripe_available bigint,
    drift            bigint,
    checked_at       timestamptz,
    primary key (livemode, currency),
    check ((stripe_available is null) = (checked_at is null)),
    check ((drift is null) = (checked_at is null))
);
comment on table funds is 'One row a currency and mode: the lock every booking takes first, and what Stripe last said its balance is';
comment on column funds.stopped_at is 'Stripe refused a transfer for lack of funds then; no release until its balance covers the first in line';
comment on column funds.drift is 'Stripe''s balance at checked_at, less what the books expected there then: settled and not gone out';
comment on column funds.stop_checks is 'How often the balance was asked since';

create table transfers (
    id                  text        primary key check (id like 'xfer\_%'),
    livemode            boolean     not null,
    status              text        not null check (status in ('waiting', 'releasing', 'released', 'partially_reversed', 'reversed', 'failed', 'canceled')),
    waiting_on          text[]      not null default '{}',
    fundable            boolean     not null default false,
    destination         text        not null,
    amount              bigint      not null check (amount > 0),
    currency            text        not null,
    topup               text,
    transfer_group      text,
    description         text,
    metadata            jsonb       not null,
    release_after       timestamptz,
    priority            integer     not null,
    held_at             timestamptz,
    held_by             text,
    approved_at         timestamptz,
    approved_by         text,
    created_by          text        not null,
    idempotency_key     text        not null,
    generation          integer     not null default 1 check (generation >= 1),
    reservations        integer     not null default 0,
    hold_off_until      timestamptz,
    hold_off_reason     text,
    expected_release_at timestamptz,
    stripe_transfer     text        unique,
    amount_reversed     bigint      not null default 0 check (amount_reversed between 0 and amount),
    failure_code        text,
    failure_message     text,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    released_at         timestamptz,
    foreign key (livemode, currency) references funds (livemode, currency),
    check ((stripe_transfer is not null) = (status in ('released', 'partially_reversed', 'reversed'))),
    check ((failure_code is not null) = (status = 'failed')),
    check (status in ('waiting', 'releasing') or waiting_on = '{}'),
    check (not fundable or status = 'waiting'),
    check ((hold_off_until is null) = (hold_off_reason is null)),
    check (case status
               when 'partially_reversed' then amount_reversed > 0 and amount_reversed < amount
               when 'reversed' then amount_reversed = amount
               else amount_reversed = 0 end)
) with (fillfactor = 80);
comment on table transfers is 'Each transfer that was asked for, and where it stands';
comment on column transfers.fundable is 'Waits for nothing but money: the line that the funding pass walks';
comment on column transfers.generation is 'N of the Idempotency-Key xfer_….N that is used now or next';
comment on column transfers.hold_off_until is 'Stripe refused it for a cause on the account''s side: not tried again before this, whatever the account looks like';
comment on column transfers.reservations is 'How often its money was reserved; numbers the reservation''s ledger entries';

create index transfers_line on transfers (livemode, currency, (-priority), created_at, id) where fundable;
create index transfers_open_by_destination on transfers (livemode, destination) where status in ('waiting', 'releasing');
create index transfers_open_by_topup on transfers (livemode, topup) where topup is not null and status in ('waiting', 'releasing');
create index transfers_open on transfers (livemode, id) where status in ('waiting', 'releasing');
create index transfers_by_destination on transfers (destination, id);
create index transfers_by_status on transfers (status, id);
create index transfers_by_group on transfers (transfer_group, id) where transfer_group is not null;
create index transfers_by_idempotency_key on transfers (idempotency_key);

create table transfer_history (
    id         bigint generated always as identity primary key,
    transfer   text        not null references transfers (id),
    at         timestamptz not null,
    status     text        not null,
    waiting_on text[]      not null,
    cause      text        not null
);
comment on table transfer_history is 'Every status and every set of reasons a transfer had, and what brought it there';
create index transfer_history_by_transfer on transfer_history (transfer, id);
create trigger transfer_history_is_append_only before update or delete on transfer_history for each row execute function refuse_change();

create table attempts (
    transfer         text        not null references transfers (id),
    n                integer     not null check (n >= 1),
    body             text        not null,
    prepared_at      timestamptz not null,
    sends            integer     not null default 0,
    first_sent_at    timestamptz,
    last_sent_at     timestamptz,
    last_ended_at    timestamptz,
    in_flight        boolean     not null default false,
    answered         boolean     not null default false,
    look_up_due      boolean     not null default false,
    empty_look_ups   integer     not null default 0,
    last_look_up_at  timestamptz,
    not_before       timestamptz,
    outcome          text        check (outcome in ('created', 'refused', 'superseded')),
    primary key (transfer, n),
    check ((sends = 0) = (first_sent_at is null)),
    check ((sends = 0) = (last_sent_at is null))
);
comment on table attempts is 'One row per idempotency key xfer_….N: the frozen request and what is known of its outcome';
comment on column attempts.body is 'The form body, sent byte for byte each time this key is used';
comment on column attempts.in_flight is 'A call was begun and its end was never recorded';
comment on column attempts.answered is 'Stripe answered with a 5xx, which it stores and will replay for this key';
comment on column attempts.look_up_due is 'Stripe asked not to repeat, or said that the key was used with other parameters: look before anything is sent';
comment on column attempts.empty_look_ups is 'Complete look-ups since the last send that did not find the transfer';

create table calls (
    id         bigint generated always as identity primary key,
    transfer   text        not null,
    n          integer     not null,
    kind       text        not null check (kind in ('create', 'look_up')),
    started_at timestamptz not null,
    ended_at   timestamptz not null,
    outcome    text        not null,
    status     integer,
    code       text,
    message    text,
    request_id text,
    foreign key (transfer, n) references attempts (transfer, n)
);
comment on table calls is 'Evidence: every answered or failed call to Stripe about an attempt';
create index calls_by_transfer on calls (transfer, id);

create table ledger_accounts (
    id       bigint generated always as identity primary key,
    livemode boolean not null,
    currency text    not null,
    kind     text    not null check (kind in ('money_in', 'available', 'reserved', 'released')),
    lot      text    not null,
    balance  bigint  not null default 0,
    unique (livemode, currency, kind, lot),
    foreign key (livemode, currency) references funds (livemode, currency),
    check (kind not in ('reserved', 'released') or balance >= 0)
) with (fillfactor = 50);
comment on table ledger_accounts is 'Where money can be. Per lot: money_in is the outside it came from (negative), the others are ours';
comment on column ledger_accounts.lot is 'The top-up (or adjustment) the money came with';

create table ledger_entries (
    id        bigint generated always as identity primary key,
    kind      text        not null check (kind in ('settlement', 'settlement_reversal', 'reservation', 'reservation_return', 'release', 'transfer_reversal', 'adjustment')),
    reference text        not null,
    transfer  text        references transfers (id),
    at        timestamptz not null,
    unique (kind, reference)
);
comment on table ledger_entries is 'One movement of money each; kind and reference say what happened, once';
create index ledger_entries_by_transfer on ledger_entries (transfer) where transfer is not null;

create table ledger_postings (
    entry   bigint not null references ledger_entries (id),
    account bigint not null references ledger_accounts (id),
    amount  bigint not null check (amount <> 0),
    primary key (entry, account)
);
comment on table ledger_postings is 'The lines of an entry, in minor units; they sum to zero';

create function ledger_keep_balance() returns trigger language plpgsql as $$
begin
    update ledger_accounts set balance = balance + new.amount where id = new.account;
    return new;
end $$;
create trigger ledger_balance after insert on ledger_postings for each row execute function ledger_keep_balance();

create function ledger_check_balanced() returns trigger language plpgsql as $$
begin
    if (select sum(amount) from ledger_postings where entry = new.entry) <> 0 then
        raise exception 'ledger entry % does not sum to zero', new.entry using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger ledger_balanced after insert on ledger_postings
    deferrable initially deferred for each row execute function ledger_check_balanced();

create trigger ledger_entries_are_append_only before update or delete on ledger_entries for each row execute function refuse_change();
create trigger ledger_postings_are_append_only before update or delete on ledger_postings for each row execute function refuse_change();
