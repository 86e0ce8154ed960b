-- What Stripe asks for is kept even if somebody rings; and a currency that owes more than it has says so.

alter table tasks add column not_before timestamptz;
comment on column tasks.not_before is 'Stripe asked to be left alone until then: no ring makes it due before';

alter table funds add column overdrawn boolean not null default false;
comment on column funds.overdrawn is 'More is reserved and released than has settled, since money was taken back: nothing is sent, also of what was reserved before';
