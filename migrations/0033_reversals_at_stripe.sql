-- Whoever reads of a reversal at Stripe finds here what it belongs to.

create index reversals_at_stripe on reversals (stripe_reversal) where stripe_reversal is not null;
comment on index reversals_at_stripe is 'For the search by Stripe''s own id';
