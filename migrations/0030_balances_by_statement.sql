-- A statement that books many entries changes the balance of each account once, where it was changed once a line: the
-- row of a lot that pays a hundred transfers had two hundred versions in one transaction, and each was looked through
-- for the next.

create function ledger_keep_balances() returns trigger language plpgsql as $$
begin
    update ledger_accounts a set balance = a.balance + booked.amount
    from (select account, sum(amount)::bigint as amount from booked_postings group by account) booked
    where a.id = booked.account;
    return null;
end $$;

drop trigger ledger_balance on ledger_postings;
drop function ledger_keep_balance();
create trigger ledger_balance after insert on ledger_postings
    referencing new table as booked_postings for each statement execute function ledger_keep_balances();
