//! Tokens for a user's name and password, over HTTP.

use super::*;

async fn user_token(bench: &Bench, username: &str, password: &str) -> Response {
    let body = json!({
        "provider": "linxoConnect",
        "client_id": "simulated-client",
        "client_secret": "simulated-client-secret",
        "grant_type": "password",
        "scope": "connections_sync",
        "username": username,
        "password": password,
    });
    let url = format!("{}/token", bench.simulator.auth_url());
    bench.client.post(url).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn a_username_and_its_password_open_the_users_own_queue() {
    let lifetime = Duration::from_secs(3600);
    let bench = Bench::with(Options { token_lifetime: lifetime, ..Options::default() }).await;
    let queue = bench.queue("u").await;
    bench.simulator.set_password("u", "open sesame").unwrap();
    let answer = user_token(&bench, "u", "open sesame").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["expires_in"], 3600);
    let ask = |token: String| {
        bench.client.get(format!("{}/queues/{queue}", bench.simulator.url())).bearer_auth(token)
    };
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let asked = ask(token.clone()).send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    let wrong = user_token(&bench, "u", "password-of-u").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.json::<Value>().await.unwrap()["error"], "invalid_grant");
    assert_eq!(bench.simulator.revoke(&Revocation::User("u".to_owned())), 1);
    assert_eq!(ask(token).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn two_requests_at_once_for_one_user_are_seen_while_an_answer_is_slow() {
    let bench = Bench::start().await;
    let slow = Fault::Slow { over_ms: 100 };
    bench.simulator.inflict(Order::always(slow).on(RequestKind::Token)).unwrap();
    let whole = async |user: &str| {
        let answer = user_token(&bench, user, &format!("password-of-{user}")).await;
        assert!(answer.json::<Value>().await.unwrap()["access_token"].is_string());
    };
    tokio::join!(whole("u"), whole("v"), whole("u"));
    whole("v").await;
    let users = bench.simulator.ledger(None).users;
    let counted: Vec<_> = users
        .iter()
        .map(|user| (&*user.user, user.token_requests, user.most_token_requests_at_once))
        .collect();
    assert!(counted.contains(&("u", 2, 2)) && counted.contains(&("v", 2, 1)), "{counted:?}");
}
