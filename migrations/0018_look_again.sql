-- What Stripe told never changes. What this program understood of it does, once it learns to read a type.

create function outbox_keeps_what_was_told() returns trigger language plpgsql as $$
declare
    understood outbox := new;
begin
    understood.ignored := old.ignored;
    understood.subject_kind := old.subject_kind;
    understood.subject := old.subject;
    if old.ignored is distinct from 'unhandled_type' or understood is distinct from old then
        raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
comment on function outbox_keeps_what_was_told is 'Refuses every change but one: an event of a type that nobody handled gets the subject it rings for, or another reason to be ignored';

drop trigger outbox_is_immutable on outbox;
create trigger outbox_keeps_what_was_told before update on outbox for each row execute function outbox_keeps_what_was_told();

create index outbox_unhandled_idx on outbox (livemode, type, seq) where ignored = 'unhandled_type';
