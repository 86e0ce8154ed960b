//! A process serves what its roles are, and nothing else.

use reqwest::Method;
use sluicegate::cli::service::Roles;

use crate::support::world::{ADMIN_KEY, World};

/// One path of each part, with the status by which it shows that it is there.
const PARTS: [(&str, Method, &str, u16); 5] = [
    ("intake", Method::POST, "/webhooks/stripe", 400),
    ("api", Method::GET, "/v1/accounts", 200),
    ("api", Method::GET, "/openapi.json", 200),
    ("api", Method::GET, "/onboarding/none/return", 404),
    ("console", Method::GET, "/console/sign-in", 200),
];

#[tokio::test]
async fn each_role_has_its_routes_and_no_other_has_them() {
    const NONE: Roles = Roles { intake: false, worker: false, api: false, console: false };
    let subsets: [(Roles, &[&str]); 6] = [
        (Roles { worker: true, ..NONE }, &[]),
        (Roles { intake: true, ..NONE }, &["intake"]),
        (Roles { api: true, ..NONE }, &["api"]),
        (Roles { console: true, ..NONE }, &["console"]),
        (Roles { intake: true, console: true, ..NONE }, &["intake", "console"]),
        (Roles::ALL, &["intake", "api", "console"]),
    ];
    for (roles, parts) in subsets {
        let world = World::with(|setting| setting.plan.roles = roles).await;
        let ask = async |method: Method, path: &str| {
            let request = world.api.http.request(method, world.api.url(path)).bearer_auth(ADMIN_KEY);
            let answer = request.send().await.unwrap();
            let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            (answer.status().as_u16(), kind.unwrap_or_default(), answer.text().await.unwrap())
        };
        for (part, method, path, there) in PARTS {
            let (status, kind, body) = ask(method, path).await;
            let unknown_route = status == 404 && kind == "application/problem+json";
            match parts.contains(&part) {
                true => assert_eq!((status, unknown_route), (there, false), "{roles:?} {path}: {body}"),
                false => assert!(unknown_route, "{roles:?} {path}: {status} {body}"),
            }
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(ask(Method::GET, path).await.0, 200, "{roles:?} {path}");
        }
    }
}
