-- Money that did not come by a top-up, and who was passed over.

create table adjustments (
    id         text        primary key check (id like 'adj\_%'),
    livemode   boolean     not null,
    currency   text        not null,
    amount     bigint      not null check (amount <> 0),
    reason     text        not null check (reason <> ''),
    created_by text        not null,
    created_at timestamptz not null,
    foreign key (livemode, currency) references funds (livemode, currency)
);
comment on table adjustments is 'Money that finance counts in or out by hand: an opening balance, money moved in the Dashboard; each is a lot of its own';
comment on column adjustments.amount is 'In minor units; negative takes money out';
create index adjustments_by_mode on adjustments (livemode, id);
create trigger adjustments_are_append_only before update or delete on adjustments for each row execute function refuse_change();

alter table transfers add column passed_over_at timestamptz;
comment on column transfers.passed_over_at is 'Since when later ones of its source got money while it stayed in the line; after 24 hours it blocks them';
create index transfers_waiting_in_order on transfers (livemode, currency, (-priority), created_at, id) where status = 'waiting';
