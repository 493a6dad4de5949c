//! What is refused, and in which words.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn each_reason_has_its_status_its_type_and_its_wait() {
    let served = serve(Some(TOKEN)).await;
    let wait = Duration::from_millis(2_500);
    let what = || "why".to_owned();
    let cases = [
        (Unserved::NotOwned { owner_url: None, retry_after: wait }, 503, "not-owner", Some("3")),
        (Unserved::KafkaAway, 503, "kafka-away", Some("5")),
        (Unserved::OutcomeUnknown, 503, "outcome-unknown", Some("1")),
        (Unserved::CredentialRefused { what: what() }, 422, "credential-refused", None),
        (Unserved::InvalidCredential { what: what() }, 422, "invalid-credential", None),
        (Unserved::SourceAway { what: what() }, 503, "source-away", Some("5")),
        (Unserved::SourceUnusable { what: what() }, 502, "source-unusable", None),
        (Unserved::Busy { retry_after: wait }, 503, "busy", Some("3")),
        (Unserved::Conflict { what: what() }, 409, "conflict", None),
    ];
    for (unserved, status, name, wait) in cases {
        served.fake.tell(|told| told.unserved = Some(unserved));
        let answer = served.put("/v1/subscriptions/u").send().await.unwrap();
        let retry_after =
            answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(retry_after.as_deref(), wait, "{name}");
        let (found, body) = problem(served.put("/v1/subscriptions/u")).await;
        assert_eq!((found.as_u16(), &body["type"]), (status, &kind(name)));
    }
}

#[tokio::test]
async fn nothing_under_v1_is_answered_without_the_token() {
    let served = serve(Some(TOKEN)).await;
    let wrong =
        [None, Some("Bearer "), Some("Bearer the-admin-toke"), Some("Basic the-admin-token")];
    let paths =
        ["/v1/subscriptions/u", "/v1/subscriptions", "/v1/instances", "/v1/log", "/v1/none", "/v1"];
    for path in paths {
        for authorization in wrong {
            let mut request = served.bare(Method::GET, path);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let answer = request.try_clone().unwrap().send().await.unwrap();
            let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer"));
            let (status, body) = problem(request).await;
            assert_eq!((status, &body["type"]), (StatusCode::UNAUTHORIZED, &kind("unauthorized")));
        }
    }
    assert!(served.fake.users().is_empty());
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        let answer = served.bare(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_only_loopback_is_listened_on_and_nothing_is_asked() {
    let served = serve(None).await;
    let answer = served.bare(Method::GET, "/v1/subscriptions/u").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Admin::bind(everywhere, None, Fake::default()).await.unwrap_err();
    assert!(matches!(error, AdminError::TokenMissing), "{error}");
    assert!(error.to_string().contains("admin.token_file"));
}

#[tokio::test]
async fn a_wrong_body_is_refused_by_the_name_of_the_field_without_its_value() {
    let served = serve(Some(TOKEN)).await;
    let token = |more: &str| format!(r#"{{"credential":{{"type":"access_token"{more}}}}}"#);
    let cases = [
        ("{\"credential\": hush".to_owned(), 400, "bad-json", None),
        (String::new(), 400, "bad-json", None),
        ("[\"hush\"]".to_owned(), 422, "invalid-request", Some("")),
        ("{}".to_owned(), 422, "invalid-request", Some("/credential")),
        (r#"{"credential":"hush"}"#.to_owned(), 422, "invalid-request", Some("/credential")),
        (r#"{"credential":{}}"#.to_owned(), 422, "invalid-request", Some("/credential/type")),
        (
            r#"{"credential":{"type":"hush"}}"#.to_owned(),
            422,
            "invalid-request",
            Some("/credential/type"),
        ),
        (token(""), 422, "invalid-request", Some("/credential/access_token")),
        (token(r#","access_token":"""#), 422, "invalid-request", Some("/credential/access_token")),
        (
            token(r#","access_token":["hush"]"#),
            422,
            "invalid-request",
            Some("/credential/access_token"),
        ),
        (
            token(r#","access_token":"hush\r\nhush""#),
            422,
            "invalid-request",
            Some("/credential/access_token"),
        ),
        (
            token(r#","access_token":"hush","expires_at":"hush""#),
            422,
            "invalid-request",
            Some("/credential/expires_at"),
        ),
        (
            token(r#","access_token":"hush","a/b":"hush""#),
            422,
            "invalid-request",
            Some("/credential/a~1b"),
        ),
        (
            r#"{"credential":{"type":"client"},"queue_id":5}"#.to_owned(),
            422,
            "invalid-request",
            Some("/queue_id"),
        ),
        (
            r#"{"credential":{"type":"client"},"topic":"hush"}"#.to_owned(),
            422,
            "invalid-request",
            Some("/topic"),
        ),
        (
            r#"{"credential":{"type":"password","username":"hush"}}"#.to_owned(),
            422,
            "invalid-request",
            Some("/credential/password"),
        ),
        (
            r#"{"credential":{"type":"password","username":"","password":"hush"}}"#.to_owned(),
            422,
            "invalid-request",
            Some("/credential/username"),
        ),
        (
            r#"{"credential":{"type":"password","username":"hush","password":7}}"#.to_owned(),
            422,
            "invalid-request",
            Some("/credential/password"),
        ),
        (
            format!(
                r#"{{"credential":{{"type":"password","username":"u","password":"{}"}}}}"#,
                "hush".repeat(1025)
            ),
            422,
            "invalid-request",
            Some("/credential/password"),
        ),
        (
            r#"{"credential":{"type":"password","username":"u","password":"p","more":"hush"}}"#
                .to_owned(),
            422,
            "invalid-request",
            Some("/credential/more"),
        ),
    ];
    for (body, status, name, pointer) in cases {
        let request = served
            .call(Method::PUT, "/v1/subscriptions/u")
            .header("content-type", "application/json; charset=utf-8")
            .body(body.clone());
        let (found, problem) = problem(request).await;
        assert_eq!((found.as_u16(), &problem["type"]), (status, &kind(name)), "{body}");
        assert_eq!(problem.get("pointer").and_then(Value::as_str), pointer, "{body}");
    }
    assert!(served.fake.users().is_empty());
}

#[tokio::test]
async fn bodies_have_a_limit_and_a_type() {
    let served = serve(Some(TOKEN)).await;
    let put = || served.call(Method::PUT, "/v1/subscriptions/u");
    let large = " ".repeat(64 * 1024 + 1);
    let (status, body) =
        problem(put().header("content-type", "application/json").body(large)).await;
    assert_eq!((status, &body["type"]), (StatusCode::PAYLOAD_TOO_LARGE, &kind("too-large")));
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = put().header("content-type", content_type).body(token_body().to_string());
        let (status, body) = problem(request).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(body["type"], kind("unsupported-media-type"));
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let served = serve(Some(TOKEN)).await;
    for path in ["/", "/v2", "/v1/none", "/v1/subscriptions/u/none", "/v1/subscriptions/"] {
        let (status, body) = problem(served.call(Method::GET, path)).await;
        assert_eq!((status, &body["type"]), (StatusCode::NOT_FOUND, &kind("unknown-path")));
    }
    let post = served.call(Method::POST, "/v1/subscriptions/u");
    let allow = post.try_clone().unwrap().send().await.unwrap().headers()["allow"].clone();
    let allow: BTreeSet<&str> = allow.to_str().unwrap().split(',').collect();
    assert_eq!(allow, BTreeSet::from(["DELETE", "GET", "HEAD", "PUT"]));
    let (status, body) = problem(post).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(body["type"], kind("method-not-allowed"));
}

#[tokio::test]
async fn a_limit_out_of_range_or_an_unknown_parameter_is_refused() {
    let served = serve(Some(TOKEN)).await;
    for query in ["limit=0", "limit=1001", "limit=x", "limit=", "befor=x"] {
        let path = format!("/v1/subscriptions?{query}");
        let (status, body) = problem(served.call(Method::GET, &path)).await;
        assert_eq!((status, &body["type"]), (StatusCode::BAD_REQUEST, &kind("bad-request")));
    }
    let path = "/v1/subscriptions?limit=1000&after=";
    let page: Value = served.call(Method::GET, path).send().await.unwrap().json().await.unwrap();
    assert_eq!(page, json!({"subscriptions": [], "next": null}));
}
