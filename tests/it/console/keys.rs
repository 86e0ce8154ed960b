//! Keys, the audit log and the health of the service, at the console.

use serde_json::json;

use super::{audited, key};
use crate::support::browser::Browser;
use crate::support::world::{ADMIN_KEY, World};

#[tokio::test]
async fn a_key_s_secret_is_shown_once_and_the_key_ends_by_a_button() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    admin.get("/console/keys").await.must_say("There is none but the bootstrap key.");
    let asked = admin.get("/console/keys/new").await;
    let (mark, once) = (asked.hidden("mark"), asked.hidden("once"));
    let form = [("mark", mark.as_str()), ("once", &once), ("name", "payroll <1>"), ("scope", "operate")];
    let made = admin.post("/console/keys", &form).await;
    let secret = made.text.split("readonly value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(secret.starts_with("sgk_"), "{secret}");
    admin.post("/console/keys", &form).await.must_say("is not shown again").must_not_say(&secret);
    let list = admin.get("/console/keys").await;
    list.must_say("payroll &#60;1&#62;").must_not_say(&secret);
    assert_eq!(list.text.matches("/revoke\"").count(), 1, "sent twice, it is one key");
    let holder = Browser::signed_in(&world.api.base, &secret).await;
    let path = list.text.split("href=\"").find(|after| after.starts_with("/console/keys/key_")).unwrap();
    let path = path.split('"').next().unwrap();
    let done = admin.press(path, &[]).await;
    assert_eq!(done.leads_to(), "/console/keys?done=revoke");
    admin.get(done.leads_to()).await.must_say("The key was revoked.").must_say("Revoked</span>");
    assert_eq!(holder.get("/console").await.status, 303, "whoever is signed in with it is out");
    let id = path.split('/').nth(3).unwrap();
    let actions: Vec<String> = audited(&world, id).await.into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, ["key.created", "key.revoked"]);
    for (name, scope) in [("", "read"), ("x", ""), ("x", "root")] {
        let form = [("mark", mark.as_str()), ("name", name), ("scope", scope)];
        assert_eq!(admin.post("/console/keys", &form).await.status, 422, "{name} {scope}");
    }
}

#[tokio::test]
async fn only_administrators_see_keys() {
    let world = World::start().await;
    let operator = Browser::signed_in(&world.api.base, &key(&world, "operate").await.0).await;
    let overview = operator.get("/console").await;
    overview.must_not_say("/console/keys");
    let mark = overview.hidden("mark");
    for path in ["/console/keys", "/console/keys/new", "/console/keys/key_1/revoke"] {
        assert_eq!(operator.get(path).await.status, 403, "{path}");
    }
    let form = [("mark", mark.as_str()), ("name", "x"), ("scope", "admin")];
    assert_eq!(operator.post("/console/keys", &form).await.status, 403);
    let keys: i64 =
        sqlx::query_scalar("select count(*) from api_keys").fetch_one(world.pool()).await.unwrap();
    assert_eq!(keys, 1);
}

#[tokio::test]
async fn the_audit_log_is_read_by_subject_and_its_details_by_operators() {
    let world = World::start().await;
    let (read, operate) = (key(&world, "read").await, key(&world, "operate").await);
    let account = world.ready_account().await;
    let described = json!({"description": "for Ann"});
    let transfer = world.transfer(&account, 100, described).await;
    let reader = Browser::signed_in(&world.api.base, &read.0).await;
    let operator = Browser::signed_in(&world.api.base, &operate.0).await;
    let path = format!("/console/audit?subject={transfer}");
    reader
        .get(&path)
        .await
        .must_say("Transfer requested")
        .must_not_say("for Ann")
        .must_not_say("Key created");
    operator
        .get(&path)
        .await
        .must_say("for Ann")
        .must_say(&format!("href=\"/console/transfers/{transfer}\""));
    let all = operator.get("/console/audit").await;
    all.must_say("Key created").must_say("Console signed in");
    for n in 0..20 {
        world.transfer(&account, 100 + n, json!({})).await;
    }
    let first = operator.get("/console/audit").await;
    let next =
        first.text.split("href=\"/console/audit?").find(|part| part.starts_with("after=")).expect("more");
    let second = operator.get(&format!("/console/audit?{}", next.split('"').next().unwrap())).await;
    second.must_say("Key created");
    assert_eq!(first.text.matches("<tr>").count(), 21);
}

#[tokio::test]
async fn the_health_page_says_what_doctor_finds_from_within() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let page = reader.get("/console/health").await;
    assert_eq!(page.status, 200);
    page.must_say("Migrations").must_say("Dead letters").must_say("Releases").must_say("not stopped");
    let (status, _) = world.api.post("/v1/releases/pause", "p", &json!({"reason": "audit day"})).await;
    assert_eq!(status, 200);
    reader.get("/console/health").await.must_say("audit day").must_say("Look</span>");
}
