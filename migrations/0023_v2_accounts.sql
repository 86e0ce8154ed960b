-- Accounts of Stripe's v2: what is held of one that v1 of the API does not tell.

alter table accounts add column v2 boolean not null default false;
comment on column accounts.v2 is 'Known to be an account of v2: an event of v2 told of it, or v2 of the API showed it. Fetched by v1 and v2 from then on';

alter table accounts add column closed_at timestamptz;
comment on column accounts.closed_at is 'The earliest sign that the account was closed, which is for good';

-- What was told of such accounts before was kept, and led to v1's view alone: they are asked about once more.
with told as (
    select livemode, subject, min(created) filter (where type = 'v2.core.account.closed') as closed_at
    from outbox
    where subject_kind = 'account' and ignored is null
        and (starts_with(type, 'v2.core.account.') or starts_with(type, 'v2.core.account['))
    group by livemode, subject
), known as (
    update accounts a set v2 = true, closed_at = told.closed_at
    from told where a.livemode = told.livemode and a.account = told.subject
    returning a.livemode, a.account
)
insert into tasks (kind, subject, livemode, run_at)
select 'account', account, livemode, now() from known order by account
on conflict (kind, subject, livemode) where event_id is null do nothing;
