//! Queries, paths and headers that nobody sane would send.

use reqwest::Method;
use serde_json::json;

use super::{call, get, good, post};
use crate::support::reply::{ask, say};
use crate::support::world::{ADMIN_KEY, World};

#[tokio::test]
async fn query_parameters_are_known_and_well_formed() {
    let world = World::start().await;
    for i in 0..3 {
        post(&world, &i.to_string(), good().to_string().as_bytes()).await;
    }
    let lists = ["/v1/transfers", "/v1/topups", "/v1/accounts", "/v1/events", "/v1/keys"];
    for list in lists {
        for (query, pointer) in [
            ("limit=0", "/query/limit"),
            ("limit=101", "/query/limit"),
            ("limit=-1", "/query/limit"),
            ("limit=1.0", "/query/limit"),
            ("limit=", "/query/limit"),
            ("limit=99999999999999999999", "/query/limit"),
            ("limit=1&limit=2", "/query/limit"),
            ("after=", "/query/after"),
            ("after=xfer_1", "/query/after"),
            ("after=%00", "/query/after"),
            ("after=%27%20or%201=1--", "/query/after"),
            ("offset=1", "/query/offset"),
            ("Limit=1", "/query/Limit"),
            ("%00=1", "/query/"),
            ("a/b=1", "/query/a~1b"),
        ] {
            let reply = get(&world, &format!("{list}?{query}")).await;
            reply.must_be(422, "validation", &format!("{list}?{query}"));
            assert_eq!(reply.pointers(), [pointer], "{list}?{query}");
        }
        assert_eq!(get(&world, &format!("{list}?limit=100")).await.status, 200, "{list}");
        let odd = get(&world, &format!("{list}?limit=%ff")).await;
        assert_eq!(odd.status, 422, "{list}: {odd:?}");
    }
    let next = get(&world, "/v1/transfers?limit=1").await.body["next"].as_str().unwrap().to_owned();
    assert_eq!(
        get(&world, &format!("/v1/transfers?after={next}")).await.body["data"].as_array().unwrap().len(),
        2
    );
    for list in &lists[1..] {
        let reply = get(&world, &format!("{list}?after={next}")).await;
        reply.must_be(422, "validation", &format!("another list's cursor at {list}"));
    }
    get(&world, &format!("/v1/transfers?after={}", &next[1..])).await.must_be(
        422,
        "validation",
        "half a cursor",
    );
    for (query, pointer) in [
        ("status=nope", "/query/status"),
        ("waiting_on=nope", "/query/waiting_on"),
        ("destination=tu_1", "/query/destination"),
        ("currency=USD", "/query/currency"),
        ("topup=1", "/query/topup"),
        ("transfer_group=", "/query/transfer_group"),
        ("stripe_transfer=xfer_1", "/query/stripe_transfer"),
        ("created_from=yesterday", "/query/created_from"),
        ("created_to=2026-11-22T10:00:00+01:00", "/query/created_to"),
    ] {
        let reply = get(&world, &format!("/v1/transfers?{query}")).await;
        reply.must_be(422, "validation", query);
        assert_eq!(reply.pointers(), [pointer], "{query}");
    }
    let reply = get(&world, "/v1/funds?currency=usd").await;
    assert_eq!((reply.status, reply.pointers()), (422, vec!["/query/currency"]));
}

#[tokio::test]
async fn where_there_is_nothing_a_problem_says_so() {
    let world = World::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/transfers/",
        "/v2/transfers",
        "/v1/transfers/xfer_1/nope",
        "/webhooks",
        "//v1/funds",
    ] {
        get(&world, path).await.must_be(404, "not_found", path);
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/v1/transfers", "GET,HEAD,POST"),
        (Method::PUT, "/v1/transfers/xfer_1", "GET,HEAD"),
        (Method::GET, "/v1/transfers/xfer_1/cancel", "POST"),
        (Method::GET, "/webhooks/stripe", "POST"),
        (Method::POST, "/v1/funds", "GET,HEAD"),
        (Method::PATCH, "/v1/keys/key_1", "DELETE"),
    ] {
        let reply = ask(call(&world, method.clone(), path)).await;
        reply.must_be(405, "method_not_allowed", path);
        let mut given: Vec<&str> = reply.header("allow").split(',').map(str::trim).collect();
        given.sort_unstable();
        assert_eq!(given.join(","), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn odd_ids_in_a_path_are_the_ids_of_nothing() {
    let world = World::start().await;
    let long = "x".repeat(8_000);
    let odd = [
        "%00",
        "xfer_%00",
        "acct_1%00",
        "..%2f..%2fetc",
        "%2e%2e",
        "%ff%fe",
        "acct_%ff",
        "%F0%9F%99%82",
        "'",
        "%22",
        "%27%3b--",
        "%0d%0aX:%20y",
        "acct_1%2freadiness",
        "%20",
        "null",
        "-1",
        long.as_str(),
        "%25s%25n",
        "xfer_1%3Fa%3Db",
    ];
    for id in odd {
        for (method, path) in [
            (Method::GET, format!("/v1/transfers/{id}")),
            (Method::POST, format!("/v1/transfers/{id}/cancel")),
            (Method::POST, format!("/v1/transfers/{id}/hold")),
            (Method::POST, format!("/v1/transfers/{id}/resume")),
            (Method::GET, format!("/v1/accounts/{id}")),
            (Method::GET, format!("/v1/accounts/{id}/readiness")),
            (Method::GET, format!("/v1/accounts/{id}/readiness?refresh=true")),
            (Method::GET, format!("/v1/topups/{id}")),
            (Method::GET, format!("/v1/events/{id}")),
            (Method::POST, format!("/v1/events/{id}/replay")),
            (Method::DELETE, format!("/v1/keys/{id}")),
        ] {
            // As it is: a client of the usual kind would tidy the path up.
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\nConnection: close\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let heard = say(&world.api, &head, b"").await;
            let short: String = path.chars().take(60).collect();
            assert!(heard.starts_with("HTTP/1.1 404 "), "{method} {short}: {heard}");
            assert!(heard.contains("application/problem+json"), "{method} {short}: {heard}");
        }
    }
    assert_eq!((world.rows("accounts").await, world.rows("topups").await), (0, 0));
}

#[tokio::test]
async fn the_callers_request_id_comes_back_where_it_is_a_plain_word() {
    let world = World::start().await;
    let with = |id: &str| ask(call(&world, Method::GET, "/v1/nothing").header("X-Request-Id", id));
    for id in ["abc-1.2_3:4", &"x".repeat(128)] {
        let reply = with(id).await;
        assert_eq!((reply.header("x-request-id"), &reply.body["request_id"]), (id, &json!(id)));
    }
    let mut made = std::collections::BTreeSet::new();
    for id in ["", "a b", "a\"b", "<b>", &"x".repeat(129)] {
        let reply = with(id).await;
        let own = reply.header("x-request-id").to_owned();
        assert!(own.starts_with("req_") && own != id, "{id}: {own}");
        made.insert(own);
    }
    assert_eq!(made.len(), 5, "each its own");
    let reply = ask(world.api.http.get(world.api.url("/healthz"))).await;
    assert!(reply.header("x-request-id").starts_with("req_"));
    assert_eq!(
        (reply.header("x-content-type-options"), reply.header("cache-control")),
        ("nosniff", "no-store")
    );
}
