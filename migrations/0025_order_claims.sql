-- Orders that ask Stripe between two transactions: who is at one keeps its Idempotency-Key meanwhile.

create table order_claims (
    owner      text        not null,
    key        text        not null,
    token      uuid        not null,
    held_until timestamptz not null,
    primary key (owner, key)
);
comment on table order_claims is 'An order under way outside of a transaction, while Stripe is asked; whoever repeats it waits until the row is gone or held_until has passed';
comment on column order_claims.owner is 'As in idempotency_keys: the API key''s id, or who else orders';
comment on column order_claims.token is 'Of the one that is at it: nobody else takes the row away';
comment on column order_claims.held_until is 'Beyond any call; reached only where the process died in between';

comment on column audit_log.actor is 'An API key''s id, admin for the bootstrap key, shell:USER for a person at the command line, or sluicegate itself';
