-- Who is signed in to the console.

create table console_sessions (
    token_hash bytea       primary key check (length(token_hash) = 32),
    key        text        references api_keys (id),
    admin_seal bytea       check (length(admin_seal) = 32),
    began_at   timestamptz not null,
    seen_at    timestamptz not null,
    ends_at    timestamptz not null,
    check (num_nonnulls(key, admin_seal) = 1),
    check (ends_at > began_at and seen_at >= began_at)
);
comment on table console_sessions is 'Who is signed in to the console; a row goes when its owner signs out, or with a sign-in after its end';
comment on column console_sessions.token_hash is 'SHA-256 of the 256-bit random token in the browser''s cookie';
comment on column console_sessions.key is 'The API key that it was exchanged for: the session reaches as far, and ends with it';
comment on column console_sessions.admin_seal is 'For the bootstrap key: its SHA-256 under an HMAC with the token, so that another bootstrap key ends the session and the row tells nothing about either';
comment on column console_sessions.seen_at is 'When its owner last did something, to the minute';
comment on column console_sessions.ends_at is 'When it ends, whatever its owner does';
create index console_sessions_by_end on console_sessions (ends_at);

create table event_minutes (
    livemode     boolean     not null,
    minute       timestamptz not null,
    events       bigint      not null check (events >= 0),
    lag_ms       bigint      not null check (lag_ms >= 0),
    dead_letters bigint      not null check (dead_letters >= 0),
    up_to_seq    bigint      not null,
    primary key (livemode, minute)
);
comment on table event_minutes is 'How the intake went, minute by minute, for the charts of the console; kept for two days';
comment on column event_minutes.minute is 'When it was noted, cut to the minute; one process a minute notes it';
comment on column event_minutes.events is 'Deliveries stored since the minute before, or since five minutes ago where that is later';
comment on column event_minutes.lag_ms is 'How long the oldest event that was not applied yet had waited then';
comment on column event_minutes.dead_letters is 'Events that could not be applied, as many as there were then';
comment on column event_minutes.up_to_seq is 'The last seq that was counted';
