-- Whoever takes many events at once takes no more than fit in memory, and must know how large they are before it reads
-- them.
alter table tasks add column bytes integer;
comment on column tasks.bytes is 'How large the event''s payload is; null for a timer, and where it was stored before this was kept';
