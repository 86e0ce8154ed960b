-- An account whose readiness stays as it was is rewritten in its place.
--
-- Both indexes held what many events about an account change, so that each of those made an entry in every index of the
-- table, and left a dead one behind. Whoever asks for a reason, or for accounts that are not ready, is served by the
-- few that are not; whoever asks for those that are, by nearly all.

drop index accounts_by_ready;
drop index accounts_by_reason;
create index accounts_unready on accounts (livemode, account) where not ready;
comment on index accounts_unready is 'For the filters by readiness and by reason';
