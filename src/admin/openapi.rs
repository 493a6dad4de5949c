//! The description of the admin API, OpenAPI 3.1.
//!
//! Promises:
//! - every route is described, and nothing else (tested against the table of routes);
//! - every problem type is listed with its status.
//!
//! Written by hand, because what is worth saying stands in no type.
//!
//! Knows nothing of: how a call is served.

use serde_json::{Map, Value, json};

use super::problem::{self, Kind};
use super::routes::{DEFAULT_PAGE, MAX_BODY_BYTES, MAX_PAGE, MAX_USER_ID_BYTES};

/// The whole document.
pub(super) fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "linxo-kafka-bridge admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Says whose Linxo event queues are drained. Any instance takes any call; \
                            every call may be repeated.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The text of admin.token_file. Without one only loopback is listened \
                                on, and no token is asked for.",
            }},
            "parameters": {"user_id": {
                "name": "user_id",
                "in": "path",
                "required": true,
                "description": format!("Any text of up to {MAX_USER_ID_BYTES} bytes but . and .., \
                                        percent-encoded as one segment: / is %2F."),
                "schema": {"type": "string", "minLength": 1},
            }},
            "responses": {"problem": {
                "description": "A refusal. 503 may pass by waiting and carries Retry-After.",
                "headers": {"Retry-After": {
                    "description": "Seconds to wait.",
                    "schema": {"type": "integer", "minimum": 1},
                }},
                "content": {problem::CONTENT_TYPE: {"schema": reference("Problem")}},
            }},
            "schemas": schemas(),
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn answer(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// One call: its answers, the given ones and the problems by their kinds.
fn call(id: &str, summary: &str, answers: Value, problems: &[Kind]) -> Value {
    let mut call = json!({"operationId": id, "summary": summary, "responses": answers});
    for kind in problems {
        call["responses"][kind.status().to_string()] =
            json!({"$ref": "#/components/responses/problem"});
    }
    call
}

/// A call that needs no token.
fn open(mut call: Value) -> Value {
    call["security"] = json!([]);
    call
}

fn paths() -> Value {
    let user = json!([{"$ref": "#/components/parameters/user_id"}]);
    let empty = |description: &str| json!({"description": description});
    let one = [Kind::BadRequest, Kind::Unauthorized, Kind::UnknownUser, Kind::NotOwner];

    let mut put = call(
        "putSubscription",
        "Makes the user's queue and writes the subscription durably, or gives an existing one a new \
         credential. A synchronization may start as soon as this is answered.",
        json!({
            "200": answer("It existed: same queue, new credential.", reference("Put")),
            "201": answer("It is new.", reference("Put")),
        }),
        &[
            Kind::BadJson,
            Kind::Unauthorized,
            Kind::Conflict,
            Kind::TooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidRequest,
            Kind::SourceUnusable,
            Kind::KafkaAway,
        ],
    );
    put["requestBody"] = json!({
        "required": true,
        "description": format!("Up to {MAX_BODY_BYTES} bytes."),
        "content": {"application/json": {"schema": reference("PutRequest")}},
    });
    let mut page = call(
        "pageSubscriptions",
        "Pages through all subscriptions in the order of the user ids' bytes.",
        json!({"200": answer("A page.", reference("Page"))}),
        &[Kind::BadRequest, Kind::Unauthorized, Kind::NotOwner],
    );
    page["parameters"] = json!([
        {
            "name": "after",
            "in": "query",
            "description": "The next of the page before; absent for the first page.",
            "schema": {"type": "string"},
        },
        {
            "name": "limit",
            "in": "query",
            "schema": {
                "type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE,
            },
        },
    ]);
    let mut change_log = call(
        "changeLogFilter",
        "Has this instance, and no other, write other log lines until it ends; then service.log \
         counts again.",
        json!({"200": answer("It is in force.", reference("LogFilter"))}),
        &[
            Kind::BadJson,
            Kind::Unauthorized,
            Kind::TooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidRequest,
            Kind::Busy,
        ],
    );
    change_log["requestBody"] = json!({
        "required": true,
        "content": {"application/json": {"schema": reference("LogFilter")}},
    });
    let text = json!({"schema": {"type": "string"}});

    json!({
        "/v1/subscriptions/{user_id}": {
            "parameters": user,
            "put": put,
            "get": call(
                "showSubscription",
                "Shows a subscription.",
                json!({"200": answer("The subscription.", reference("Subscription"))}),
                &one,
            ),
            "delete": call(
                "removeSubscription",
                "Removes a subscription: asking stops, what was received is still published.",
                json!({"204": empty("Removed.")}),
                &one,
            ),
        },
        "/v1/subscriptions/{user_id}/hint": {
            "parameters": user,
            "post": call(
                "hintSubscription",
                "A synchronization is about to start: asks the user's queue often for a while.",
                json!({"202": empty("Understood.")}),
                &one,
            ),
        },
        "/v1/subscriptions": {"get": page},
        "/v1/instances": {"get": call(
            "showInstances",
            "Shows who is alive and what each owns, as of the instances' last marks.",
            json!({"200": answer("The instances.", reference("Instances"))}),
            &[Kind::Unauthorized, Kind::Busy],
        )},
        "/v1/log": {
            "get": call(
                "showLogFilter",
                "Shows which log lines this instance writes.",
                json!({"200": answer("The filter.", reference("LogFilter"))}),
                &[Kind::Unauthorized, Kind::Busy],
            ),
            "put": change_log,
        },
        "/livez": {"get": open(call(
            "showLiveness",
            "Alive while the scheduler makes progress, whatever Kafka or Linxo do.",
            json!({"200": answer("Alive.", json!({"type": "object"}))}),
            &[Kind::NotAlive],
        ))},
        "/readyz": {"get": open(call(
            "showReadiness",
            "Ready while calls can be served.",
            json!({"200": answer("Ready.", json!({"type": "object"}))}),
            &[Kind::NotReady],
        ))},
        "/metrics": {"get": open(call(
            "showMetrics",
            "The metrics as Prometheus reads them.",
            json!({"200": {"description": "Text, version 0.0.4.", "content": {"text/plain": text}}}),
            &[],
        ))},
        "/openapi.json": {"get": open(call(
            "showDescription",
            "This document.",
            json!({"200": answer("OpenAPI 3.1.", json!({"type": "object"}))}),
            &[],
        ))},
    })
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let perhaps_text = json!({"type": ["string", "null"]});
    let whole = json!({"type": "integer"});
    let yes_or_no = json!({"type": "boolean"});
    let perhaps_moment = json!({"type": ["string", "null"], "format": "date-time"});
    let partitions = json!({"type": "array", "items": {"type": "integer"}});
    json!({
        "PutRequest": object(json!({
            "credential": {"oneOf": [
                object(json!({
                    "type": {"const": "access_token"},
                    "access_token": {
                        "type": "string",
                        "minLength": 1,
                        "writeOnly": true,
                        "description": "Visible ASCII, of a user who may be asked for queues.",
                    },
                    "expires_at": {
                        "type": ["integer", "string", "null"],
                        "format": "date-time",
                        "description": "Milliseconds since 1970, or RFC 3339.",
                    },
                }), &["type", "access_token"]),
                object(json!({
                    "type": {"const": "password"},
                    "username": {"type": "string", "minLength": 1, "writeOnly": true},
                    "password": {
                        "type": "string",
                        "minLength": 1,
                        "writeOnly": true,
                        "description": "Sealed; the bridge asks for the user's tokens with it.",
                    },
                }), &["type", "username", "password"]),
                object(json!({"type": {"const": "client"}}), &["type"]),
            ]},
            "queue_id": {
                "type": ["string", "null"],
                "description": "A queue made elsewhere, to be asked from now on; the present one is \
                                asked once more and forgotten.",
            },
        }), &["credential"]),
        "Put": object(json!({
            "user_id": text, "subscription_id": text, "queue_id": text, "partition": whole,
        }), &["user_id", "subscription_id", "queue_id", "partition"]),
        "Subscription": {"type": "object", "properties": {
            "user_id": text,
            "subscription_id": text,
            "queue_id": text,
            "generation": {"type": "integer", "description": "The number of the queue, from 1."},
            "partition": whole,
            "owner": {"type": "string", "description": "The id of the owning instance."},
            "state": {"enum": ["live", "subscribing", "recovering", "blocked"]},
            "blocked_reason": perhaps_text,
            "last_answer": {"type": ["object", "null"], "properties": {
                "at": perhaps_moment,
                "outcome": {
                    "type": "string",
                    "description": "As the label outcome of linxo_bridge_polls_total.",
                },
            }},
            "headroom_seconds": {
                "type": ["integer", "null"],
                "description": "Time until the queue would die if it were not asked.",
            },
            "next_due": perhaps_moment,
            "credential": {"type": "object", "properties": {
                "type": {"enum": ["access_token", "password", "client"]},
            }},
        }},
        "Page": object(json!({
            "subscriptions": {"type": "array", "items": reference("Subscription")},
            "next": {
                "type": ["string", "null"],
                "description": "Give it as after to get the next page; null on the last.",
            },
        }), &["subscriptions", "next"]),
        "Instances": object(json!({"instances": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "instance_id": text,
                "journal_id": text,
                "url": text,
                "partitions": partitions,
                "marked_at": perhaps_moment,
                "asked_until": perhaps_moment,
                "published_until": perhaps_moment,
                "is_alive": yes_or_no,
                "is_self": yes_or_no,
            },
        }}}), &["instances"]),
        "LogFilter": object(json!({"filter": {
            "type": "string",
            "minLength": 1,
            "description": "A level (off, error, warn, info, debug, trace), or target=level with \
                            commas between, as in info,linxo_kafka_bridge::worker=debug.",
        }}), &["filter"]),
        "Problem": {
            "type": "object",
            "description": "RFC 9457.",
            "properties": {
                "type": {"enum": Kind::ALL.iter().map(|kind| kind.uri()).collect::<Vec<_>>()},
                "title": text,
                "status": whole,
                "detail": text,
                "pointer": {"type": "string", "description": "The field at fault, a JSON pointer."},
                "reasons": {"type": "array", "items": text},
            },
            "required": ["type", "title", "status", "detail"],
            "x-types": Kind::ALL.iter().map(|kind| (kind.uri(), json!({
                "status": kind.status(), "title": kind.title(),
            }))).collect::<Map<_, _>>(),
        },
    })
}

/// A closed object.
fn object(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
