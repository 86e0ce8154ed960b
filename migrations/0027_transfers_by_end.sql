-- What ended otherwise than released is few and looked for often: by operators, and counted at each scrape.

create index transfers_by_end on transfers (livemode, status) where status in ('failed', 'canceled', 'reversed', 'partially_reversed');
comment on index transfers_by_end is 'Counts what people have to look at without walking over all that was ever released';
