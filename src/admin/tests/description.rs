//! `/openapi.json` against the routes.

use std::collections::BTreeSet;

use super::super::problem::Kind;
use super::*;

#[tokio::test]
async fn the_description_names_every_route_and_no_other() {
    let served = serve(None).await;
    let document: Value =
        served.bare(Method::GET, "/openapi.json").send().await.unwrap().json().await.unwrap();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, calls)| {
            let methods = calls.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let routes: BTreeSet<(String, String)> = routes::routes::<Fake>()
        .iter()
        .map(|(method, path, _)| (method.to_string(), path.to_string()))
        .collect();
    assert_eq!(described, routes);

    // The names in the table are those that the routes answer to.
    for (method, path) in &routes {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let path = path.replace("{user_id}", "u");
        let body = if path == "/v1/log" { json!({"filter": "info"}) } else { token_body() };
        let status = served.bare(method, &path).json(&body).send().await.unwrap().status();
        assert!(status.is_success(), "{path}: {status}");
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere_and_every_problem_is_listed() {
    let document = openapi::document();
    let mut references = Vec::new();
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                references.extend(fields.get("$ref").and_then(Value::as_str));
                left.extend(fields.values());
            }
            Value::Array(items) => left.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(references.len() > 20);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let types = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    assert_eq!(types.as_array().unwrap().len(), Kind::ALL.len());
}
