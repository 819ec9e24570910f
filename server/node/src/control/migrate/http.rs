//! `/migrate/…` on the admin port: orders as JSON, answers as JSON.
//!
//! ```text
//! GET  /migrate/status                 the status, at most some tenths of a second old
//! GET  /migrate/differences            keys that differ, their names hashed
//! POST /migrate/plan                   {"source": "host:port", "tls": false, "keys": false, "old_side": …, "by_scan": false}
//! POST /migrate/start                  {"source": "host:port", "announce": "host:port", "tls": false, "force": false,
//!                                       "old_side": "replica" | "written", "bar_users": ["name"], "by_scan": false}
//!                                      both: "shards": ["host:port", …] in the place of "source", of servers sharded by hand, or
//!                                      ["host:port=pattern,pattern", …]: which keys each has
//! POST /migrate/advance                {"force": false, "old_side": …, "bar_users": …, "shard": 0}: what is not said stays; of several
//! POST /migrate/back                   {"force": false, "shard": 0}                            the one of this number, or the next
//! POST /migrate/verify                 {"fetch": true}
//! POST /migrate/differences            {"keys": true}
//! POST /migrate/finish                 {}: the report and its SHA-256
//!
//! 200 {"ok": "…"}    400 no such body    403 no header    409 not now, or undone: {"error": "…", "undone": true}    500, 503
//! ```
//! The admin port knows no users: it is bound where only operators come. A POST needs the header [`HEADER`], which no page of a browser can send
//! to another site without asking first. A body is bounded by [`BODY_BYTES_MAX`], and no answer has a secret in it.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use migration::{OldSide, PATTERNS_BYTES_MAX, PATTERNS_MAX, Server, is_host, patterns_of};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::order::{Fault, Order, Way};
use super::{Asked, plan, status};
use crate::node::Node;

/// The header of orders, and its value.
pub(super) const HEADER: (&str, &str) = ("x-meridian-migrate", "1");
/// Bytes of a body.
const BODY_BYTES_MAX: usize = 16 << 10;
/// The port of a source that is named without one.
const PORT: u16 = 6379;

/// The pages.
pub(in crate::control) fn routes() -> Router<&'static Node> {
    Router::new()
        .route("/migrate/status", get(show))
        .route("/migrate/differences", get(list).post(list_with_keys))
        .route("/migrate/plan", post(look))
        .route("/migrate/start", post(start))
        .route("/migrate/advance", post(advance))
        .route("/migrate/back", post(back))
        .route("/migrate/verify", post(verify))
        .route("/migrate/finish", post(finish))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

fn reply(code: StatusCode, body: &Value) -> Response {
    let text = format!("{body}\n");
    (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn refuse(code: StatusCode, why: &str) -> Response {
    reply(code, &json!({"error": why}))
}

async fn show(State(node): State<&'static Node>) -> Response {
    reply(StatusCode::OK, &node.migration.status())
}

async fn list(State(node): State<&'static Node>) -> Response {
    reply(StatusCode::OK, &node.migration.differences(false))
}

/// The body of an order.
///
/// # Errors
/// The refusal: no header, no JSON.
fn order_of(headers: &HeaderMap, body: &[u8]) -> Result<Value, Box<Response>> {
    let (name, value) = HEADER;
    if headers.get(name).is_none_or(|found| found != value) {
        let why = format!("orders need the header {name}: {value}");
        return Err(Box::new(refuse(StatusCode::FORBIDDEN, &why)));
    }
    let parsed = match body.trim_ascii() {
        [] => Ok(json!({})),
        body => serde_json::from_slice(body),
    };
    match parsed {
        Ok(order @ Value::Object(_)) => Ok(order),
        _ => Err(Box::new(refuse(
            StatusCode::BAD_REQUEST,
            "the body is no JSON object",
        ))),
    }
}

fn flag(order: &Value, name: &str, default: bool) -> bool {
    order.get(name).and_then(Value::as_bool).unwrap_or(default)
}

/// `host:port`, `[::1]:6379`, or a host alone.
fn server_of(text: &str, tls: bool) -> Result<Server, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port = port.parse().map_err(|_| format!("'{text}' has no port"))?;
            (host, port)
        }
        _ => (text, PORT),
    };
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    if !is_host(&host) || port == 0 {
        return Err(format!("'{text}' is no host:port"));
    }
    Ok(Server { host, port, tls })
}

fn named(order: &Value, name: &str) -> Result<Server, Box<Response>> {
    let text = order.get(name).and_then(Value::as_str).unwrap_or("");
    let tls = name == "source" && flag(order, "tls", false);
    server_of(text, tls)
        .map_err(|why| Box::new(refuse(StatusCode::BAD_REQUEST, &format!("{name}: {why}"))))
}

/// What an order says of the old side.
fn way(order: &Value) -> Result<Way, Box<Response>> {
    let refused = |why: &str| Box::new(refuse(StatusCode::BAD_REQUEST, why));
    let old_side = match order.get("old_side") {
        None | Some(Value::Null) => None,
        Some(name) => {
            let side = name.as_str().and_then(OldSide::of);
            Some(side.ok_or_else(|| refused("old_side: 'replica' or 'written'"))?)
        }
    };
    let users = match order.get("bar_users") {
        None | Some(Value::Null) => None,
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            let names: Option<Vec<String>> = names.collect();
            Some(names.ok_or_else(|| refused("bar_users: an array of names"))?)
        }
        Some(_) => return Err(refused("bar_users: an array of names")),
    };
    let by_scan = flag(order, "by_scan", false);
    Ok(Way {
        old_side,
        users,
        by_scan,
    })
}

/// Servers, and the patterns of the keys of each, if they are said.
type Sources = (Vec<Server>, Vec<Vec<String>>);

/// The servers of `source` (one), or of `shards` (several), with the patterns of their keys, if these are said.
fn sources_of(order: &Value) -> Result<Sources, Box<Response>> {
    let Some(shards) = order.get("shards").and_then(Value::as_array) else {
        return Ok((vec![named(order, "source")?], Vec::new()));
    };
    let bad = |why: String| Box::new(refuse(StatusCode::BAD_REQUEST, &format!("shards: {why}")));
    if shards.len() < 2 {
        return Err(bad(
            "there is one, or none: name it as the source".to_owned()
        ));
    }
    let tls = flag(order, "tls", false);
    let (mut servers, mut all) = (Vec::new(), Vec::new());
    for shard in shards.iter().map(|shard| shard.as_str().unwrap_or("")) {
        let (place, patterns) = match shard.split_once('=') {
            Some((place, text)) => (place, Some(text)),
            None => (shard, None),
        };
        servers.push(server_of(place, tls).map_err(bad)?);
        if let Some(text) = patterns {
            let patterns = patterns_of(text).ok_or_else(|| {
                bad(format!(
                    "'{shard}': at most {PATTERNS_MAX} patterns of {PATTERNS_BYTES_MAX} bytes, apart by commas, without blanks"
                ))
            })?;
            all.push(patterns);
        }
    }
    match all.is_empty() || all.len() == servers.len() {
        true => Ok((servers, all)),
        false => Err(bad("patterns are said of each, or of none".to_owned())),
    }
}

/// The number of a shard, if one is said.
fn shard_of(order: &Value) -> Result<Option<usize>, Box<Response>> {
    match order.get("shard") {
        None | Some(Value::Null) => Ok(None),
        Some(number) => {
            let number = number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok());
            let bad = || {
                Box::new(refuse(
                    StatusCode::BAD_REQUEST,
                    "shard: a number, as `status` shows it",
                ))
            };
            number.map(Some).ok_or_else(bad)
        }
    }
}

/// Sends an order to the thread, and waits for what comes of it.
async fn carry_out(node: &Node, order: Order) -> Response {
    let (answer, way) = oneshot::channel();
    if !node.migration.ask(Asked::Order(order, answer)) {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "migrations do not run here",
        );
    }
    match way.await {
        Ok(Ok(done)) => reply(StatusCode::OK, &json!({"ok": done})),
        Ok(Err(Fault::Failed(why))) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Ok(Err(Fault::Conflict(why))) => refuse(StatusCode::CONFLICT, &why),
        Ok(Err(Fault::Undone(why))) => {
            let body = json!({"error": why, "undone": true});
            reply(StatusCode::CONFLICT, &body)
        }
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
    }
}

type Node_ = State<&'static Node>;

async fn list_with_keys(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    match order_of(&headers, &body) {
        Ok(order) => {
            let listed = node.migration.differences(flag(&order, "keys", false));
            reply(StatusCode::OK, &listed)
        }
        Err(refusal) => *refusal,
    }
}

async fn look(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    let order = order_of(&headers, &body);
    let asked = order.and_then(|order| {
        let means = way(&order)?.means();
        let (sources, _) = sources_of(&order)?;
        Ok((sources, (flag(&order, "keys", false), means)))
    });
    let (sources, what) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    let looked = tokio::task::spawn_blocking(move || plan::survey(node, &sources, what));
    match looked.await {
        Ok(Ok(survey)) => reply(StatusCode::OK, &status::assessment(&survey.report)),
        Ok(Err(why)) => refuse(StatusCode::BAD_GATEWAY, &why),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the assessment failed"),
    }
}

async fn start(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    let order = order_of(&headers, &body).and_then(|order| {
        let way = way(&order)?;
        let is_written = way.means().old_side == OldSide::Written;
        let announce = match order.get("announce") {
            None if is_written => None,
            _ => Some(named(&order, "announce")?),
        };
        let (sources, patterns) = sources_of(&order)?;
        Ok(Order::Start {
            sources,
            patterns,
            announce,
            force: flag(&order, "force", false),
            way,
        })
    });
    match order {
        Ok(order) => carry_out(node, order).await,
        Err(refusal) => *refusal,
    }
}

async fn advance(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    let order = order_of(&headers, &body).and_then(|order| {
        Ok(Order::Advance {
            force: flag(&order, "force", false),
            way: way(&order)?,
            shard: shard_of(&order)?,
        })
    });
    match order {
        Ok(order) => carry_out(node, order).await,
        Err(refusal) => *refusal,
    }
}

async fn back(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    let order = order_of(&headers, &body).and_then(|order| {
        Ok(Order::Back {
            force: flag(&order, "force", false),
            shard: shard_of(&order)?,
        })
    });
    match order {
        Ok(order) => carry_out(node, order).await,
        Err(refusal) => *refusal,
    }
}

async fn verify(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    match order_of(&headers, &body) {
        Ok(order) => {
            let mends = flag(&order, "fetch", true);
            carry_out(node, Order::Verify { mends }).await
        }
        Err(refusal) => *refusal,
    }
}

async fn finish(State(node): Node_, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = order_of(&headers, &body) {
        return *refusal;
    }
    let done = carry_out(node, Order::Finish).await;
    if done.status() != StatusCode::OK {
        return done;
    }
    let (answer, way) = oneshot::channel();
    node.migration.ask(Asked::Report(answer));
    let report = way.await.unwrap_or_default();
    let sum = status::signature(&report, None);
    reply(
        StatusCode::OK,
        &json!({"ok": "the migration is finished", "report": report, "sum": sum}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_several_ways() {
        for (text, expected) in [
            ("a:1", Some(("a", 1))),
            ("10.0.0.1", Some(("10.0.0.1", PORT))),
            ("::1", Some(("::1", PORT))),
            ("[::1]:7000", Some(("::1", 7000))),
            ("", None),
            ("a:x", None),
            ("a:0", None),
            ("a b:1", None),
        ] {
            let server = server_of(text, false).ok();
            let found = server
                .as_ref()
                .map(|server| (server.host.as_str(), server.port));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_source_is_one_server_or_several() {
        let hosts = |order: Value| {
            let (sources, _) = sources_of(&order).ok()?;
            Some(sources.iter().map(|one| one.port).collect::<Vec<_>>())
        };
        assert_eq!(hosts(json!({"source": "a:1"})), Some(vec![1]));
        assert_eq!(hosts(json!({"shards": ["a:1", "b:2"]})), Some(vec![1, 2]));
        for bad in [
            json!({}),
            json!({"shards": ["a:1"]}),
            json!({"shards": ["a:1", "b:x"]}),
            json!({"shards": ["a:1", 7]}),
        ] {
            assert_eq!(hosts(bad.clone()), None, "{bad}");
        }
        let patterns = |order: Value| sources_of(&order).ok().map(|(_, patterns)| patterns);
        let said = patterns(json!({"shards": ["a:1=x:*,y", "b:2=*"]})).unwrap();
        assert_eq!(said, [vec!["x:*", "y"], vec!["*"]]);
        for bad in [["a:1=x", "b:2"], ["a:1=x", "b:2="], ["a:1=x y", "b:2=*"]] {
            assert_eq!(patterns(json!({"shards": bad})), None, "{bad:?}");
        }
        assert_eq!(shard_of(&json!({"shard": 3})).ok(), Some(Some(3)));
        assert!(shard_of(&json!({"shard": "x"})).is_err());
    }

    #[test]
    fn orders_need_their_header_and_a_body_of_json() {
        let mut headers = HeaderMap::new();
        let refused =
            |headers: &HeaderMap, body: &[u8]| order_of(headers, body).map_err(|r| r.status());
        assert_eq!(refused(&headers, b"{}"), Err(StatusCode::FORBIDDEN));
        headers.insert(HEADER.0, "1".parse().unwrap());
        assert_eq!(refused(&headers, b"{"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(refused(&headers, b"[1]"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(refused(&headers, b" "), Ok(json!({})));
        assert!(flag(
            &refused(&headers, b"{\"force\": true}").unwrap(),
            "force",
            false
        ));
    }
}
