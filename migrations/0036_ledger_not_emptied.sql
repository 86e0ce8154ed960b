-- What is append-only is not emptied either: a truncate fires no trigger of rows, and one of ledger_postings would run.

create trigger ledger_entries_are_not_emptied before truncate on ledger_entries for each statement execute function refuse_change();
create trigger ledger_postings_are_not_emptied before truncate on ledger_postings for each statement execute function refuse_change();
create trigger transfer_history_is_not_emptied before truncate on transfer_history for each statement execute function refuse_change();
create trigger topup_changes_are_not_emptied before truncate on topup_changes for each statement execute function refuse_change();
create trigger adjustments_are_not_emptied before truncate on adjustments for each statement execute function refuse_change();
