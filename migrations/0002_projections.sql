-- What the outbox adds up to: connected accounts, top-ups, and who may call the service.

create table installation (
    one           boolean     primary key default true check (one),
    first_started timestamptz not null,
    funds_since   timestamptz not null,
    platform_test text,
    platform_live text
);
comment on table installation is 'One row: when the service first started on this database';
comment on column installation.platform_test is 'The platform''s own account in test mode, once Stripe told';
comment on column installation.funds_since is 'Top-ups whose money was available before this are not money to release';

create table accounts (
    account              text        not null check (account like 'acct\_%'),
    livemode             boolean     not null,
    known                boolean     not null,
    details_submitted    boolean,
    charges_enabled      boolean,
    payouts_enabled      boolean,
    transfers_capability text,
    requirements         jsonb       not null,
    disabled_reason      text,
    country              text,
    default_currency     text,
    deauthorized_at      timestamptz,
    confirmed_at         timestamptz,
    as_of                timestamptz not null,
    source               text        not null,
    standing_at          timestamptz not null,
    standing_by          text        not null check (standing_by in ('event', 'fetch')),
    standing_seq         bigint      not null,
    fetched_at           timestamptz,
    fetch_seq            bigint,
    doubted              boolean     not null,
    ready                boolean     not null,
    reasons              text[]      not null,
    first_seen           timestamptz not null,
    updated_at           timestamptz not null,
    primary key (livemode, account),
    check ((fetched_at is null) = (fetch_seq is null)),
    check (ready = (reasons = '{}'))
) with (fillfactor = 80);

comment on table accounts is 'The readiness of each connected account, folded from the outbox';
comment on column accounts.known is 'False while only its existence was heard of: nothing that could be read described it yet';
comment on column accounts.deauthorized_at is 'The latest deauthorization, or the start of the latest fetch that was refused with 403 or 404';
comment on column accounts.confirmed_at is 'The start of the latest fetch that succeeded; a deauthorization at least 60 s older is over';
comment on column accounts.as_of is 'When the shown values were true: an event''s created or a fetch''s start';
comment on column accounts.source is 'Where the shown values come from: an event id, or api';
comment on column accounts.standing_at is 'Evidence newer than this needs no fetch to be believed';
comment on column accounts.standing_seq is 'The highest seq folded in';
comment on column accounts.fetch_seq is 'A fetch began after this seq: events up to it are outranked';
comment on column accounts.doubted is 'Two pieces of evidence have no order; the less ready one is shown until a fetch tells';
comment on column accounts.reasons is 'Why it may not be paid, under the readiness policy in force at the last change; for filters';

create index accounts_by_ready on accounts (livemode, ready, account);
create index accounts_by_reason on accounts using gin (reasons);

create table account_changes (
    id       bigint generated always as identity primary key,
    livemode boolean     not null,
    account  text        not null,
    at       timestamptz not null,
    as_of    timestamptz not null,
    source   text        not null,
    state    jsonb       not null,
    reasons  text[]      not null,
    foreign key (livemode, account) references accounts (livemode, account)
);
comment on table account_changes is 'History: what each account''s readiness became, and by what evidence';
create index account_changes_by_account on account_changes (livemode, account, id);

create table topups (
    topup                      text        not null check (topup like 'tu\_%'),
    livemode                   boolean     not null,
    known                      boolean     not null,
    status                     text        not null check (status in ('pending', 'succeeded', 'failed', 'canceled', 'reversed', 'unknown')),
    amount                     bigint      not null check (amount >= 0),
    currency                   text        not null,
    balance_transaction        text,
    expected_availability_date timestamptz,
    failure_code               text,
    failure_message            text,
    description                text,
    statement_descriptor       text,
    transfer_group             text,
    metadata                   jsonb       not null,
    stripe_created             timestamptz,
    as_of                      timestamptz not null,
    source                     text        not null,
    standing_at                timestamptz not null,
    standing_by                text        not null check (standing_by in ('event', 'fetch')),
    standing_seq               bigint      not null,
    fetched_at                 timestamptz,
    fetch_seq                  bigint,
    doubted                    boolean     not null,
    proof_status               text,
    proof_available_on         timestamptz,
    proof_amount               bigint,
    proof_currency             text,
    proof_at                   timestamptz,
    on_its_way_at              timestamptz,
    watched_since              timestamptz,
    settled                    boolean     not null default false,
    settled_at                 timestamptz,
    excluded                   boolean     check (excluded is null or settled_at is not null),
    booked_amount              bigint      not null default 0,
    booked_currency            text,
    bookings                   integer     not null default 0,
    first_seen                 timestamptz not null,
    updated_at                 timestamptz not null,
    primary key (livemode, topup),
    check ((fetched_at is null) = (fetch_seq is null)),
    check (not settled or settled_at is not null),
    check (booked_amount = 0 or booked_currency is not null)
);
comment on table topups is 'Each top-up as last known, and whether its money may be released';
comment on column topups.known is 'False while only its id was heard of (a transfer tied to it, a thin event)';
comment on column topups.proof_status is 'Status of its balance transaction: pending or available';
comment on column topups.proof_amount is 'What the balance transaction adds to the balance, fee taken off, in minor units of proof_currency';
comment on column topups.on_its_way_at is 'The latest moment at which its money was seen to be not available yet';
comment on column topups.watched_since is 'When the balance transaction was first looked for; the polling slows down from there';
comment on column topups.settled is 'The settlement rule holds: its money has arrived';
comment on column topups.excluded is 'Decided once, when it settled: it did so before funds_since, and is shown but not money to release';
comment on column topups.booked_amount is 'What the ledger holds as settled for it now, in minor units of booked_currency';
create index topups_by_seen on topups (livemode, first_seen, topup);
create index topups_arriving on topups (livemode, currency) where known and not settled and status in ('pending', 'succeeded');

create table api_keys (
    id           text        primary key,
    name         text        not null,
    scope        text        not null check (scope in ('read', 'operate', 'admin')),
    secret_hash  bytea       not null unique check (length(secret_hash) = 32),
    created_at   timestamptz not null,
    created_by   text        not null,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
comment on table api_keys is 'Keys of internal services and operators; only the SHA-256 of a 256-bit random secret is kept';

create table idempotency_keys (
    owner        text        not null,
    key          text        not null,
    request_hash bytea       not null,
    status       integer     not null,
    response     jsonb       not null,
    created_at   timestamptz not null,
    primary key (owner, key)
);
comment on table idempotency_keys is 'Answers to POSTs, by the caller''s Idempotency-Key';
comment on column idempotency_keys.owner is 'money for transfers, batches and top-ups (never expires, holds across API keys), else the API key''s id (kept 24 hours)';
comment on column idempotency_keys.request_hash is 'SHA-256 of method, path and body';
create index idempotency_keys_by_age on idempotency_keys (created_at) where owner <> 'money';

create table replicas (
    id      uuid        primary key,
    seen_at timestamptz not null
);
comment on table replicas is 'Running processes that call Stripe; they share the rate limit equally';
