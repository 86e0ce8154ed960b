-- How far the walks through Stripe's lists have come: events never received, objects never told of.

create table sweeps (
    livemode    boolean     not null,
    name        text        not null check (name in ('events', 'accounts', 'topups', 'transfers')),
    since       timestamptz,
    after       text,
    started_at  timestamptz not null,
    finished_at timestamptz,
    seen        bigint      not null default 0,
    found       bigint      not null default 0,
    complete_to timestamptz,
    runs        bigint      not null default 0,
    primary key (livemode, name)
);
comment on table sweeps is 'The cursor of each walk through a list of Stripe''s, kept with what its pages brought';
comment on column sweeps.since is 'Only what was created then or later is listed in this run; null: all';
comment on column sweeps.after is 'The last id of the page read last: where the next begins; null: at the newest';
comment on column sweeps.seen is 'Entries read in this run';
comment on column sweeps.found is 'Of those, what was not known here, or held differently';
comment on column sweeps.complete_to is 'Everything Stripe created up to then has been read, by this or an earlier run';
comment on column sweeps.runs is 'Runs that came to the end of the list';
