-- The audit log: who ordered what, when and why, in a chain of hashes that shows any later change.

create table audit_log (
    id       bigint      primary key check (id >= 1),
    at       timestamptz not null,
    livemode boolean     not null,
    actor    text        not null,
    action   text        not null,
    subject  text        not null,
    details  text        not null check (details::json is not null),
    previous bytea       not null check (length(previous) = 32),
    hash     bytea       not null unique check (length(hash) = 32)
);
comment on table audit_log is 'Every order of a person or a program, and every control the service itself used; append-only, without gaps';
comment on column audit_log.actor is 'An API key''s id, admin for the bootstrap key, shell for the command line, or sluicegate itself';
comment on column audit_log.subject is 'What the order is about: a transfer, a key, an event, a currency';
comment on column audit_log.details is 'JSON, byte for byte as it was hashed';
comment on column audit_log.previous is 'The hash of the row before; 32 zero bytes for the first';
comment on column audit_log.hash is 'SHA-256 over the row before''s hash and this row''s columns';
create index audit_log_by_subject on audit_log (subject, id);
create trigger audit_log_is_append_only before update or delete on audit_log for each row execute function refuse_change();
create trigger audit_log_is_not_emptied before truncate on audit_log for each statement execute function refuse_change();

create table audit_head (
    one  boolean primary key default true check (one),
    id   bigint  not null check (id >= 0),
    hash bytea   not null check (length(hash) = 32)
);
comment on table audit_head is 'One row: the last link of the chain, and the lock that keeps the chain a line';
insert into audit_head (id, hash) values (0, decode(repeat('00', 32), 'hex'));
