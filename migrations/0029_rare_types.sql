-- Most of an outbox are account.updated, which the newest rows show without an index; the index of types keeps what is
-- rarer. Every entry of it is paid for by a delivery.
drop index outbox_by_type;
create index outbox_by_rarer_type on outbox (type, seq) where type <> 'account.updated';
comment on index outbox_by_rarer_type is 'For the list of events by type; those of account.updated are found walking back through seq';
