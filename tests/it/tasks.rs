//! The bells: none is lost, none is answered by two at once.

use sluicegate::domain::task::Kind;
use sluicegate::store::fresh_tasks::{self, Wanted};
use sluicegate::store::tasks::{self, Lease};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::postgres::{TestDatabase, database};
use crate::support::world::eventually;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-22 12:00 UTC);

async fn claim(db: &TestDatabase, now: OffsetDateTime) -> Option<Lease> {
    let token = Uuid::new_v4();
    let mut conn = db.pool.acquire().await.unwrap();
    let rows = tasks::claim_due(&mut conn, false, token, 7, now, now + Duration::MINUTE, 10).await.unwrap();
    (!rows.is_empty()).then(|| Lease { ids: rows.iter().map(|row| row.id).collect(), token })
}

async fn ring(db: &TestDatabase, at: OffsetDateTime) {
    let mut conn = db.pool.acquire().await.unwrap();
    tasks::ring(&mut conn, Kind::Account, false, &["acct_1"], at).await.unwrap();
}

async fn finish(db: &TestDatabase, lease: &Lease, now: OffsetDateTime) -> bool {
    let mut conn = db.pool.acquire().await.unwrap();
    tasks::finish(&mut conn, lease, None, now).await.unwrap()
}

#[tokio::test]
async fn a_ring_during_the_work_runs_it_again_and_none_before_does() {
    let db = database().await;
    ring(&db, NOW).await;
    ring(&db, NOW).await;
    let lease = claim(&db, NOW).await.unwrap();
    assert!(claim(&db, NOW).await.is_none(), "one bell a subject, and it is taken");
    ring(&db, NOW).await;
    assert!(claim(&db, NOW).await.is_none(), "still taken");
    assert!(finish(&db, &lease, NOW).await);
    let again = claim(&db, NOW).await.unwrap();
    assert!(finish(&db, &again, NOW).await);
    assert!(claim(&db, NOW + Duration::DAY).await.is_none());
}

#[tokio::test]
async fn a_ring_that_meets_the_finish_is_not_lost() {
    let db = database().await;
    for round in 0..150 {
        ring(&db, NOW).await;
        let lease = claim(&db, NOW).await.unwrap();
        let (finished, ()) = tokio::join!(finish(&db, &lease, NOW), ring(&db, NOW));
        assert!(finished, "round {round}: the lease was held");
        let again = claim(&db, NOW).await;
        assert!(again.is_some(), "round {round}: the ring is due");
        assert!(finish(&db, &again.unwrap(), NOW).await);
    }
}

#[tokio::test]
async fn a_lease_that_ran_out_is_somebody_elses_and_the_first_holder_can_change_nothing() {
    let db = database().await;
    ring(&db, NOW).await;
    let first = claim(&db, NOW).await.unwrap();
    let later = NOW + Duration::minutes(2);
    let second = claim(&db, later).await.unwrap();
    assert!(!finish(&db, &first, later).await);
    let mut conn = db.pool.acquire().await.unwrap();
    assert!(!tasks::hold(&mut conn, &first, later).await.unwrap());
    assert!(tasks::hold(&mut conn, &second, later).await.unwrap());
    assert!(!tasks::hold(&mut conn, &second, later + Duration::HOUR).await.unwrap(), "nor after its own end");
    tasks::fail(&mut conn, &first, "late", later, None).await.unwrap();
    assert!(finish(&db, &second, later).await, "the late failure of the first holder changed nothing");
}

#[tokio::test]
async fn a_task_given_back_is_due_at_once_and_keeps_its_count() {
    let db = database().await;
    ring(&db, NOW).await;
    let lease = claim(&db, NOW).await.unwrap();
    let mut conn = db.pool.acquire().await.unwrap();
    tasks::give_back(&mut conn, &lease, NOW).await.unwrap();
    let rows =
        tasks::claim_due(&mut conn, false, Uuid::new_v4(), 7, NOW, NOW + Duration::MINUTE, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.attempts).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn what_a_dead_process_held_is_due_at_once_and_what_a_living_one_holds_is_not() {
    let db = database().await;
    ring(&db, NOW).await;
    let lease = claim(&db, NOW).await.unwrap();
    let mut alive = db.pool.acquire().await.unwrap().detach();
    assert!(tasks::take_presence(&mut alive, 7).await.unwrap());
    assert!(tasks::keeps_presence(&mut alive, 7).await.unwrap());
    let mut conn = db.pool.acquire().await.unwrap();
    assert_eq!(tasks::void_orphans(&mut conn, NOW).await.unwrap(), 0);
    sqlx::Connection::close(alive).await.unwrap();
    let voided = || async {
        let mut conn = db.pool.acquire().await.unwrap();
        (tasks::void_orphans(&mut conn, NOW).await.unwrap() == 1).then_some(())
    };
    assert!(eventually(voided).await.is_some(), "Postgres frees the lock with the connection");
    assert!(!finish(&db, &lease, NOW).await, "the token is void");
    assert!(claim(&db, NOW).await.is_some());
}

#[tokio::test]
async fn a_ring_wakes_what_failed_earlier_but_not_before_stripe_wants_to_be_asked() {
    let db = database().await;
    for (asked, early) in [(None, true), (Some(NOW + Duration::minutes(5)), false)] {
        ring(&db, NOW).await;
        let lease = claim(&db, NOW).await.unwrap();
        // One ring comes during the work, one after it.
        ring(&db, NOW).await;
        let mut conn = db.pool.acquire().await.unwrap();
        tasks::fail(&mut conn, &lease, "slow down", NOW + Duration::minutes(5), asked).await.unwrap();
        ring(&db, NOW).await;
        tasks::ring_open_transfers(&mut conn, false, NOW).await.unwrap();
        assert_eq!(claim(&db, NOW).await.is_some(), early, "{asked:?}");
        let again = claim(&db, NOW + Duration::minutes(6)).await.unwrap();
        assert!(finish(&db, &again, NOW + Duration::minutes(6)).await);
        ring(&db, NOW).await;
        let anew = claim(&db, NOW).await.expect("forgotten once it went well");
        assert!(finish(&db, &anew, NOW).await);
    }
}

#[tokio::test]
async fn parts_of_the_fresh_events_are_all_of_them_and_a_subject_is_in_one() {
    const SQL: &str =
        "insert into tasks (kind, subject, livemode, event_id, event_created, received_at, run_at, alone)
        select 'account', 'acct_1' || substr('0aAzZ9é', 1 + n % 7, 1), false, 'evt_' || n, $1, $1, $1, false
        from generate_series(1, 70) n";
    let db = database().await;
    sqlx::query(SQL).bind(NOW).execute(&db.pool).await.unwrap();
    let mut found: Vec<Vec<(String, i64)>> = Vec::new();
    for part in [(0, 1), (0, 2), (1, 2)] {
        let mut conn = db.pool.acquire().await.unwrap();
        let wanted = Wanted { livemode: false, kinds: &["account"], part };
        let rows = fresh_tasks::claim(&mut conn, &wanted, NOW, i64::MIN, 100).await.unwrap();
        found.push(rows.into_iter().map(|row| (row.subject, row.id)).collect());
    }
    let [all, even, odd] = <[_; 3]>::try_from(found).unwrap();
    assert_eq!((all.len(), even.len() + odd.len()), (70, 70));
    assert!(!even.is_empty() && !odd.is_empty());
    assert!(even.iter().all(|(subject, _)| odd.iter().all(|(other, _)| subject != other)));
}
