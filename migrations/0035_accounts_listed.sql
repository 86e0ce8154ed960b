-- An account that left Stripe while its event was lost is missing from Stripe's list, and nothing else shows it.

create table accounts_listed (
    livemode boolean not null,
    account  text    not null,
    primary key (livemode, account)
);
comment on table accounts_listed is 'What the walk under way through Stripe''s list of accounts has come by; at its end, what is held and not here is asked for';
