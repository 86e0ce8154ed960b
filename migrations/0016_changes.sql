-- Who listens to what changes follows the histories by the transactions that wrote them; and every filter of a list
-- has an index that begins with it.

-- Apart, so that old lines stay without one: they are not news.
alter table account_changes add column xid xid8;
alter table account_changes alter column xid set default pg_current_xact_id();
comment on column account_changes.xid is 'The transaction that wrote it: a reader that follows the table knows by it which rows can still appear; null in rows from before it was kept';
create index account_changes_by_xid on account_changes (xid, id) where xid is not null;

alter table transfer_history add column xid xid8;
alter table transfer_history alter column xid set default pg_current_xact_id();
comment on column transfer_history.xid is 'The transaction that wrote it: a reader that follows the table knows by it which rows can still appear; null in rows from before it was kept';
create index transfer_history_by_xid on transfer_history (xid, id) where xid is not null;

create index transfers_by_topup on transfers (topup, id) where topup is not null;
create index transfers_by_currency on transfers (currency, id);
create index transfers_by_age on transfers (created_at);

create index outbox_by_type on outbox (type, seq);
create index outbox_by_account on outbox (account, seq) where account is not null;
create index outbox_ignored on outbox (seq) where ignored is not null;
