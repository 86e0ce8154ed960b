-- What the doors of onboarding are sealed with, and what tells this installation from another at Stripe.

create table door_keys (
    id         integer     primary key generated always as identity,
    secret     bytea       not null check (length(secret) = 32),
    created_at timestamptz not null,
    retired_at timestamptz check (retired_at >= created_at)
);
comment on table door_keys is 'Secrets that seal the tickets of onboarding''s return and refresh doors; the newest that is not retired seals, every one that is not retired opens';
comment on column door_keys.secret is '256 random bits; shown nowhere';
comment on column door_keys.retired_at is 'From then on no ticket it sealed opens a door: a week after a newer key came, none is left';

alter table installation add column id uuid not null default gen_random_uuid();
comment on column installation.id is 'Goes into the idempotency keys of accounts, so that two installations on one Stripe account never meet';
