-- Approvals, daily caps, and a second try for what failed.

create table cap_usage (
    livemode    boolean not null,
    currency    text    not null,
    day         date    not null,
    destination text    not null,
    amount      bigint  not null check (amount >= 0),
    primary key (livemode, currency, day, destination),
    foreign key (livemode, currency) references funds (livemode, currency)
);
comment on table cap_usage is 'What was reserved in a UTC day and not given back, whether or not a cap is set: one set at noon must know the morning';
comment on column cap_usage.destination is 'An account, or empty for all of the currency';
comment on column cap_usage.amount is 'In minor units; changed only under the currency''s lock';

alter table transfers
    add column counted_on date,
    add column look_up_first boolean not null default false,
    add constraint transfers_count_while_reserved
        check (counted_on is null or status not in ('waiting', 'failed', 'canceled'));
comment on column transfers.counted_on is 'The UTC day whose caps its reservation counts towards';
comment on column transfers.look_up_first is 'It failed once and is tried again: the next key is not used before a look-up found nothing';
create index transfers_capped on transfers (livemode, currency) where status = 'waiting' and 'daily_cap_reached' = any (waiting_on);
