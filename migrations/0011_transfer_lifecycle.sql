-- A transfer's life, defended by the database: no bug of ours turns money gone out into money that waits.

create function transfers_keep_to_their_life() returns trigger language plpgsql as $$
begin
    if old.status <> new.status and not (case old.status
        when 'waiting' then new.status in ('releasing', 'released', 'partially_reversed', 'reversed', 'canceled')
        when 'releasing' then new.status in ('waiting', 'released', 'partially_reversed', 'reversed', 'failed')
        when 'failed' then new.status in ('waiting', 'released', 'partially_reversed', 'reversed')
        when 'canceled' then new.status in ('released', 'partially_reversed', 'reversed')
        when 'released' then new.status in ('partially_reversed', 'reversed')
        when 'partially_reversed' then new.status = 'reversed'
        else false end)
    then
        raise exception 'transfer % can not go from % to %', old.id, old.status, new.status
            using errcode = 'check_violation';
    end if;
    if new.amount_reversed < old.amount_reversed then
        raise exception 'transfer %: what came back can not become less', old.id using errcode = 'check_violation';
    end if;
    if old.stripe_transfer is not null and new.stripe_transfer is distinct from old.stripe_transfer then
        raise exception 'transfer % keeps its id at Stripe', old.id using errcode = 'check_violation';
    end if;
    if (old.id, old.livemode, old.destination, old.amount, old.currency, old.created_by, old.created_at)
        is distinct from (new.id, new.livemode, new.destination, new.amount, new.currency, new.created_by, new.created_at)
        or old.topup is distinct from new.topup
    then
        raise exception 'transfer % keeps what was asked for', old.id using errcode = 'check_violation';
    end if;
    return new;
end $$;
comment on function transfers_keep_to_their_life is 'The same table as domain::transfer::Status::may_become; a test compares them';
create trigger transfers_keep_to_their_life before update on transfers
    for each row execute function transfers_keep_to_their_life();
