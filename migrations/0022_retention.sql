-- What dropped partitions said of each subject stays, so that what is held can still be recomputed.

create table baselines (
    livemode boolean     not null,
    kind     text        not null check (kind in ('account', 'topup', 'stripe_transfer')),
    subject  text        not null,
    kept_at  timestamptz not null,
    state    jsonb       not null,
    primary key (livemode, kind, subject)
);
comment on table baselines is 'What was held of each subject of a dropped partition of the outbox when that was dropped; rebuild folds what is still in the outbox on top of it';
comment on column baselines.state is 'The row of accounts or topups as JSON; of a transfer at Stripe what the books hold of it';

-- Tables whose rows are rewritten often are cleared before a tenth or a fifth of them is dead.
alter table accounts set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table topups set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table transfers set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table attempts set (autovacuum_vacuum_scale_factor = 0.05);
alter table ledger_accounts set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
alter table funds set (fillfactor = 50, autovacuum_vacuum_threshold = 200);
