-- What each top-up became, step by step; and what is known of the platform's own account.

create table topup_changes (
    id        bigint generated always as identity primary key,
    xid       xid8        not null default pg_current_xact_id(),
    livemode  boolean     not null,
    topup     text        not null,
    at        timestamptz not null,
    as_of     timestamptz not null,
    source    text        not null,
    status    text        not null check (status in ('pending', 'succeeded', 'failed', 'canceled', 'reversed', 'unknown')),
    available boolean     not null,
    settled   boolean     not null,
    amount    bigint      not null check (amount >= 0),
    currency  text        not null,
    steps     text[]      not null check (cardinality(steps) > 0),
    reason    text        not null check (reason <> ''),
    foreign key (livemode, topup) references topups (livemode, topup)
);
comment on table topup_changes is 'History: what each top-up became, by what steps, and by what evidence; append-only';
comment on column topup_changes.xid is 'The transaction that wrote it: a reader that follows the table knows by it which rows can still appear';
comment on column topup_changes.as_of is 'When it was true: an event''s created or a fetch''s start';
comment on column topup_changes.source is 'An event id, or api';
comment on column topup_changes.available is 'Its balance transaction is available';
comment on column topup_changes.amount is 'Gross, in minor units';
comment on column topup_changes.steps is 'What changed, in codes: created, succeeded, available, settled, …';
comment on column topup_changes.reason is 'The same in words';
create index topup_changes_by_topup on topup_changes (livemode, topup, id);
create index topup_changes_by_xid on topup_changes (xid, id);
create trigger topup_changes_are_append_only before update or delete on topup_changes for each row execute function refuse_change();

insert into topup_changes (livemode, topup, at, as_of, source, status, available, settled, amount, currency, steps, reason)
select livemode, topup, updated_at, as_of, source, status, coalesce(proof_status = 'available', false), settled, amount,
    currency, '{found}', 'how it stood when its history began'
from topups where known order by first_seen, topup;

create table platforms (
    livemode            boolean     primary key,
    account             text        check (account like 'acct\_%'),
    country             text        check (country ~ '^[A-Z]{2}$'),
    default_currency    text,
    payout_interval     text,
    as_of               timestamptz,
    refusal             text,
    automatic_payout_at timestamptz,
    check ((account is null) = (as_of is null)),
    check (account is not null or num_nonnulls(country, default_currency, payout_interval) = 0)
);
comment on table platforms is 'The platform''s own account in each mode, as Stripe last showed it';
comment on column platforms.account is 'Null while Stripe has not shown it: the key may lack the permission';
comment on column platforms.payout_interval is 'Stripe''s word: manual, daily, weekly, monthly';
comment on column platforms.as_of is 'When the reading began that showed it';
comment on column platforms.refusal is 'What Stripe said when it last refused to show it; null once it did';
comment on column platforms.automatic_payout_at is 'The latest payout to the platform''s own bank that Stripe made by itself';

insert into platforms (livemode, account, as_of)
select livemode, account, first_started from (
    select true as livemode, platform_live as account, first_started from installation
    union all select false, platform_test, first_started from installation
) known where account is not null;
alter table installation drop column platform_test, drop column platform_live;
