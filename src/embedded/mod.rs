//! A private Postgres for the demo, the tests, and `serve` without `DATABASE_URL`.
