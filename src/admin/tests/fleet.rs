//! Calls that other instances have a part in.

use super::*;

#[tokio::test]
async fn what_another_instance_owns_is_forwarded_once_with_body_and_id_unchanged() {
    let (first, owner) = (serve(Some(TOKEN)).await, serve(Some(TOKEN)).await);
    let elsewhere = |served: &Served, url: &str| {
        let retry_after = Duration::from_secs(4);
        let unserved = Unserved::NotOwned { owner_url: Some(url.to_owned()), retry_after };
        served.fake.tell(|told| told.unserved = Some(unserved));
    };
    elsewhere(&first, &format!("{}/", owner.base));

    let answer = first.put("/v1/subscriptions/a%2F%20b%2Fhint").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["location"], "/v1/subscriptions/a%2F%20b%2Fhint");
    assert_eq!(answer.json::<Value>().await.unwrap()["user_id"], "a/ b/hint");
    let answer = first.call(Method::POST, "/v1/subscriptions/u/hint").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer = first.call(Method::DELETE, "/v1/subscriptions/u").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(owner.fake.users(), ["a/ b/hint", "u", "u"]);

    // Each takes the other for the owner: one hop, then a refusal.
    elsewhere(&owner, &first.base);
    let (status, body) = problem(first.put("/v1/subscriptions/u")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("not-owner")));
    assert_eq!((first.fake.users().len(), owner.fake.users().len()), (4, 4));

    // Port 1 of loopback: nobody listens.
    elsewhere(&first, "http://127.0.0.1:1");
    let (status, body) = problem(first.put("/v1/subscriptions/u")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("owner-away")));
}

#[tokio::test]
async fn a_fleet_with_two_tokens_says_so_instead_of_blaming_the_caller() {
    let (first, owner) = (serve(Some(TOKEN)).await, serve(Some("another")).await);
    let unserved =
        Unserved::NotOwned { owner_url: Some(owner.base.clone()), retry_after: Duration::ZERO };
    first.fake.tell(|told| told.unserved = Some(unserved));
    let (status, body) = problem(first.call(Method::GET, "/v1/subscriptions/u")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("owner-away")));
    assert!(body["detail"].as_str().unwrap().contains("same in the whole fleet"));
}

#[tokio::test]
async fn a_page_is_merged_from_all_instances_and_refused_when_one_is_missing() {
    let (first, other) = (serve(Some(TOKEN)).await, serve(Some(TOKEN)).await);
    first.fake.tell(|told| {
        told.subscriptions = vec!["a", "d", "é"];
        told.partitions = vec![0];
        told.others = vec![other.base.clone()];
    });
    other.fake.tell(|told| {
        told.subscriptions = vec!["b", "c"];
        told.partitions = vec![1];
    });
    let mut pages = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let path = format!("/v1/subscriptions?{query}");
        let page: Value =
            first.call(Method::GET, &path).send().await.unwrap().json().await.unwrap();
        let users: Vec<String> = page["subscriptions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|subscription| subscription["user_id"].as_str().unwrap().to_owned())
            .collect();
        pages.push(users);
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=2&after={next}");
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["é"]]);

    other.fake.tell(|told| told.partitions.clear());
    let (status, body) = problem(first.call(Method::GET, "/v1/subscriptions")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("not-owner")));
    first.fake.tell(|told| told.others = vec!["http://127.0.0.1:1".to_owned()]);
    let (status, body) = problem(first.call(Method::GET, "/v1/subscriptions")).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &kind("owner-away")));
}
