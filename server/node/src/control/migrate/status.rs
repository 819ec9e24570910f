//! What a migration shows of itself: the status as JSON, and the report of its end.
//!
//! No secret is in either. Names of keys are shown as the first half of their SHA-256, unless they are asked for.

use std::fmt::Write as _;

use migration::assess::{Report, bytes};
use migration::compare::{Findings, Name};
use migration::{Authority, State};
use ring::{digest, hmac};
use serde_json::{Value, json};

use super::drive::Driver;
use super::parts::{LinkNow, Parts};
use crate::source::scan::Shown;

/// Differences that are shown; all are counted.
const SHOWN_MAX: usize = 1000;
/// Digits of a name that is not shown.
const HASHED_BYTES: usize = 16;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A key's name as a report has it.
pub(super) fn shown(name: &[u8], shows_keys: bool) -> String {
    if shows_keys {
        return name.escape_ascii().to_string();
    }
    let sum = digest::digest(&digest::SHA256, name);
    format!(
        "sha256:{}",
        hex(sum.as_ref().get(..HASHED_BYTES).unwrap_or_default())
    )
}

/// Differences, with their names or without.
pub(super) fn differences(findings: &Findings, shows_keys: bool) -> Value {
    let one = |((db, key), found): (&Name, &migration::compare::Difference)| {
        json!({
            "db": db,
            "key": shown(key, shows_keys),
            "kind": found.kind.name(),
            "found_ms": found.found_ms,
            "offset": found.offset,
            "fetched_again": found.is_mended,
        })
    };
    findings.listed().take(SHOWN_MAX).map(one).collect()
}

/// The assessment.
pub(super) fn assessment(report: &Report) -> Value {
    let facts: serde_json::Map<String, Value> = report
        .facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
        .collect();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|found| json!({"weight": found.weight.name(), "what": found.what, "cure": found.cure}))
        .collect();
    let keys: Vec<Value> = report
        .big_keys
        .iter()
        .map(|key| json!({"key": key.name, "type": key.kind, "bytes": key.bytes}))
        .collect();
    json!({"stops": report.stops(), "facts": facts, "findings": findings, "big_keys": keys, "text": report.text(), "verdict": report.verdict()})
}

fn name_of(authority: Authority) -> &'static str {
    match authority {
        Authority::Own => "this node",
        Authority::Source => "the source",
        Authority::Front => "the source, writes are passed on",
        Authority::Held => "nobody for a moment",
    }
}

/// A link to a source.
fn link_shown(link: &LinkNow) -> Value {
    json!({
        "state": link.state,
        "follows": link.follows,
        "history": link.at.history,
        "offset": link.at.offset,
        "lag_bytes": link.lag_bytes,
        "copied_bytes": link.copied_bytes,
        "copy_bytes": link.copy_bytes,
        "copied_keys": link.copied_keys,
        "silent_s": link.silent_s,
        "error": link.error,
        "scan": link.scan.as_ref().map(scan_shown),
    })
}

/// Of a source that is followed by scan.
fn scan_shown(scan: &Shown) -> Value {
    json!({
        "passes": scan.passes,
        "whole": scan.is_whole,
        "losses": scan.losses,
        "lost": (scan.losses > 0).then_some(&scan.why),
        "waiting_keys": scan.waiting_keys,
        "waiting_bytes": scan.waiting_bytes,
        "events": scan.events,
        "fetched": scan.fetched,
        "changed": scan.changed,
        "unfit": scan.unfit,
        "unfit_error": scan.unfit_why,
    })
}

fn history(state: &State) -> (Value, Value) {
    let entered = state.entered.iter();
    let entered = entered.map(|(phase, at_ms)| json!({"phase": phase.name(), "at_ms": at_ms}));
    let pauses = state.pauses.iter();
    let pauses = pauses.map(|(what, us)| json!({"what": what, "us": us}));
    (entered.collect(), pauses.collect())
}

impl<P: Parts> Driver<P> {
    /// The status.
    pub(super) fn status(&self) -> Value {
        let (state, live) = (&self.state, &self.live);
        let (link, findings) = (self.parts.link(), self.findings());
        let source = state.sources.first();
        let place = |server: &migration::Server| format!("{}:{}", server.host, server.port);
        let (entered, pauses) = history(state);
        let end = self.parts.end();
        let error = self.wanted.error.lock();
        let error = error
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        json!({
            "phase": state.phase.name(),
            "authority": name_of(self.parts.authority()),
            "step": live.step,
            "open": live.is_open,
            "lost": live.is_lost,
            "began_ms": state.began_ms,
            "now_ms": self.parts.now_ms(),
            "source": source.map(place),
            "by_scan": state.by_scan,
            "shards": self.shards_shown(),
            "moving": (!self.shards.moving.is_empty()).then(|| self.shards.moving.to_string()),
            "cluster_error": self.shards.error,
            "announce": state.announce.as_ref().map(place),
            "entered": entered,
            "pauses": pauses,
            "link": link_shown(&link),
            "verify": {
                "runs": self.wanted.runs.load(std::sync::atomic::Ordering::Relaxed),
                "passes": findings.passes,
                "keys": findings.keys,
                "elements": findings.elements,
                "suspicious": findings.suspicious,
                "unsettled": findings.unsettled,
                "found": findings.found,
                "fetched_again": findings.mended,
                "open": findings.open(),
                "error": error,
            },
            "reverse": {
                "offset": end.offset,
                "acknowledged": self.parts.acknowledged(),
                "clients_at_old_side": self.seen_at(0).stragglers.clients,
                "writes_refused_there": self.refused_there(),
                "came_back": live.returned,
            },
            "written": (self.is_written() && !self.is_sharded()).then(|| self.written_status(0)),
            "assessment": live.report.as_ref().map(assessment),
            "warnings": live.warnings,
        })
    }

    /// Requests that the old side has refused since the flip, all of its servers together.
    fn refused_there(&self) -> u64 {
        let seen = self.live.seen.values();
        seen.map(|seen| seen.stragglers.refused.saturating_sub(seen.refused_before))
            .sum()
    }

    /// Of an old Redis that is written to, or one of several.
    fn written_status(&self, number: u16) -> Value {
        let at = usize::from(number);
        let (side, now) = (self.state.side(at), self.parts.written(number));
        let bars = side.bars.iter().map(|bar| bar.user.as_str());
        json!({
            "up": now.is_up,
            "begun": now.is_begun || side.is_begun,
            "there": now.there,
            "end": now.end,
            "queue_bytes": now.queue_bytes,
            "lag_ms": now.lag_ms,
            "transactions": now.transactions,
            "restated": now.restated,
            "failed": now.failed,
            "error": now.error,
            "error_since_ms": now.error.as_ref().map(|_| now.error_since_ms),
            "needs_copy": side.needs_copy.as_ref().or(now.needs_copy.as_ref()),
            "barred_users": bars.collect::<Value>(),
            "strays": self.seen_at(at).strays,
            "clients_there": self.seen_at(at).stragglers.clients,
            "now_ms": self.parts.now_ms(),
        })
    }

    /// Each of several sources, and its link.
    fn shards_shown(&self) -> Vec<Value> {
        let links = self.parts.links();
        let shards = self.sharded().into_iter();
        let shown = shards.map(|shard| {
            let link = links.get(usize::from(shard.number));
            let link = link.cloned().unwrap_or_default();
            let mut shown = link_shown(&link);
            shown["number"] = shard.number.into();
            shown["source"] = format!("{}:{}", shard.server.host, shard.server.port).into();
            shown["slots"] = shard.slots.as_ref().map(ToString::to_string).into();
            let patterns = &self.state.shards[usize::from(shard.number)].patterns;
            shown["keys"] = (!patterns.is_empty()).then(|| patterns.join(",")).into();
            shown["copies"] = link.copies.into();
            shown["resumes"] = link.resumes.into();
            shown["authority"] = name_of(match shard.is_ours {
                true => Authority::Own,
                false => Authority::Front,
            })
            .into();
            if shard.is_ours {
                shown["written"] = self.written_status(shard.number);
            }
            shown
        });
        shown.collect()
    }

    /// The report of a migration, as text; it is what is signed.
    pub(super) fn report(&self) -> String {
        let mut out = String::from("meridian migration report 1\n");
        let state = &self.state;
        let mut line = |name: &str, value: &dyn core::fmt::Display| {
            let _ = writeln!(out, "{name:<26}{value}");
        };
        for server in &state.sources {
            line("source", &format!("{}:{}", server.host, server.port));
        }
        line("phase", &state.phase.name());
        line("began, unix ms", &state.began_ms);
        for (phase, at_ms) in &state.entered {
            line(&format!("  {}", phase.name()), at_ms);
        }
        for fence in state.sides.iter().filter_map(|side| side.fence.as_ref()) {
            line("fence", &format!("{} {}", fence.history, fence.offset));
        }
        for (what, us) in &state.pauses {
            line(&format!("pause, {what}"), &format!("{us} us"));
        }
        let findings = self.findings();
        line("keys compared", &findings.keys);
        line("elements compared", &findings.elements);
        line("whole passes", &findings.passes);
        line("differences found", &findings.found);
        line("  fetched again", &findings.mended);
        line("  open", &findings.open());
        line("  unsettled", &findings.unsettled);
        line("writes refused there", &self.refused_there());
        line("came back as a primary", &self.live.returned);
        if self.is_written() {
            let strays = self.live.seen.values().map(|seen| seen.strays);
            line("others' writes there", &strays.sum::<u64>());
            let mut why = state
                .sides
                .iter()
                .filter_map(|side| side.needs_copy.as_deref());
            line("needs a new copy", &why.next().unwrap_or("no"));
        }
        out
    }
}

/// How a report is signed: with a key, or only summed.
pub(super) fn signature(report: &str, key: Option<&[u8]>) -> String {
    match key {
        Some(key) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            format!(
                "hmac-sha256:{}",
                hex(hmac::sign(&key, report.as_bytes()).as_ref())
            )
        }
        None => {
            let sum = digest::digest(&digest::SHA256, report.as_bytes());
            format!("sha256:{}", hex(sum.as_ref()))
        }
    }
}

/// The status as people read it.
pub(super) fn text_of(status: &Value) -> String {
    let mut out = String::new();
    let text = |path: &str| match status.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let number = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let _ = writeln!(
        out,
        "phase      {}   (who decides: {})",
        text("/phase"),
        text("/authority")
    );
    if !text("/step").is_empty() && text("/step") != "-" {
        let _ = writeln!(out, "step       {}", text("/step"));
    }
    if text("/phase") == "idle" {
        return out;
    }
    let _ = writeln!(
        out,
        "source     {}   (finds this node at {})",
        text("/source"),
        text("/announce")
    );
    let (copied, of) = (number("/link/copied_bytes"), number("/link/copy_bytes"));
    let _ = writeln!(
        out,
        "link       {}, {} behind, heard {} s ago",
        text("/link/state"),
        bytes(number("/link/lag_bytes")),
        number("/link/silent_s")
    );
    if status.pointer("/link/follows") == Some(&Value::Bool(false)) && copied > 0 {
        let percent = (copied * 100)
            .checked_div(of)
            .map_or(String::new(), |p| format!(" ({p} %)"));
        let _ = writeln!(
            out,
            "copy       {} of {}{percent}, {} keys",
            bytes(copied),
            bytes(of),
            number("/link/copied_keys")
        );
    }
    write_scan(&mut out, &status["link"]["scan"]);
    for shard in status["shards"].as_array().into_iter().flatten() {
        write_shard(&mut out, shard);
    }
    if text("/moving") != "-" {
        let _ = writeln!(
            out,
            "moving     the slots {}, from one shard to another",
            text("/moving")
        );
    }
    if text("/cluster_error") != "-" {
        let _ = writeln!(out, "cluster    {}", text("/cluster_error"));
    }
    if text("/link/error") != "-" {
        let _ = writeln!(out, "error      {}", text("/link/error"));
    }
    let _ = writeln!(
        out,
        "verify     {} passes, {} keys, {} open differences ({} found, {} fetched again), {} unsettled",
        number("/verify/passes"),
        number("/verify/keys"),
        number("/verify/open"),
        number("/verify/found"),
        number("/verify/fetched_again"),
        number("/verify/unsettled"),
    );
    if text("/verify/error") != "-" {
        let _ = writeln!(out, "           {}", text("/verify/error"));
    }
    if text("/phase") == "reverse" && status.pointer("/written/up").is_some() {
        written_text(status, &mut out);
    } else if text("/phase") == "reverse" {
        let behind = number("/reverse/offset").saturating_sub(number("/reverse/acknowledged"));
        let _ = writeln!(
            out,
            "old side   {} behind; {} clients are still there, {} writes were refused there; came back {} times",
            bytes(behind),
            number("/reverse/clients_at_old_side"),
            number("/reverse/writes_refused_there"),
            number("/reverse/came_back"),
        );
    }
    if let Some(pauses) = status.pointer("/pauses").and_then(Value::as_array) {
        for pause in pauses {
            let what = pause["what"].as_str().unwrap_or("");
            let _ = writeln!(out, "pause      {what}: {} us", pause["us"]);
        }
    }
    if let Some(warnings) = status.pointer("/warnings").and_then(Value::as_array) {
        for warning in warnings {
            let _ = writeln!(out, "warning    {}", warning.as_str().unwrap_or(""));
        }
    }
    out
}

/// Whether an old Redis takes what is written to it.
fn state_of(written: &Value, now_ms: u64) -> String {
    let since_ms = written["error_since_ms"].as_u64().unwrap_or(0);
    match (written["needs_copy"].as_str(), written["error"].as_str()) {
        (Some(why), _) => format!("given up, it needs a new copy: {why}"),
        (None, Some(why)) => {
            let ago_s = now_ms.saturating_sub(since_ms) / 1000;
            format!("does not take what is written, for {ago_s} s: {why}")
        }
        (None, None) if written["up"] == true => "takes what is written".to_owned(),
        (None, None) => "is being connected to".to_owned(),
    }
}

/// Of an old Redis that is written to, as people read it.
fn written_text(status: &Value, out: &mut String) {
    let written = &status["written"];
    let number = |name: &str| written[name].as_u64().unwrap_or(0);
    let state = state_of(written, status["now_ms"].as_u64().unwrap_or(0));
    let _ = writeln!(out, "old side   {state}");
    let _ = writeln!(
        out,
        "queue      {}, {} ms; {} transactions are there, {} keys were said again, {} requests failed there",
        bytes(number("queue_bytes")),
        number("lag_ms"),
        number("transactions"),
        number("restated"),
        number("failed"),
    );
    let names: Vec<&str> = written["barred_users"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let barred = match names.is_empty() {
        true => "nobody is barred there: who writes is only counted".to_owned(),
        false => format!("barred there: {}", names.join(", ")),
    };
    let reverse = |name: &str| status["reverse"][name].as_u64().unwrap_or(0);
    let _ = writeln!(
        out,
        "writers    {barred}; {} clients are still there, {} of their requests were refused, {} of their writes were not",
        reverse("clients_at_old_side"),
        reverse("writes_refused_there"),
        number("strays"),
    );
}

/// Of a source that is followed by scan.
fn write_scan(out: &mut String, scan: &Value) {
    if scan.is_null() {
        return;
    }
    let number = |name: &str| scan[name].as_u64().unwrap_or(0);
    let state = match scan["whole"] == true {
        true => "whole",
        false => "a whole pass is needed",
    };
    let _ = writeln!(
        out,
        "by scan    {state}; {} passes, {} events, {} keys read, {} of them were others here, {} wait ({})",
        number("passes"),
        number("events"),
        number("fetched"),
        number("changed"),
        number("waiting_keys"),
        bytes(number("waiting_bytes")),
    );
    if let Some(why) = scan["lost"].as_str() {
        let _ = writeln!(
            out,
            "           events lost {} times, the last time: {why}",
            number("losses")
        );
    }
    if let Some(why) = scan["unfit_error"].as_str() {
        let _ = writeln!(
            out,
            "           {} keys cannot be taken in: {why}",
            number("unfit")
        );
    }
}

/// One of several sources.
fn write_shard(out: &mut String, shard: &Value) {
    let text = |name: &str| shard[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| shard[name].as_u64().unwrap_or(0);
    let named = |name: &str| {
        let keys = shard[name].as_str();
        keys.map_or(String::new(), |keys| format!(", {name} {keys}"))
    };
    let _ = write!(
        out,
        "shard {:<4} {}{}{}: ",
        number("number"),
        text("source"),
        named("slots"),
        named("keys"),
    );
    let written = &shard["written"];
    if !written.is_null() {
        let of = |name: &str| written[name].as_u64().unwrap_or(0);
        let _ = writeln!(
            out,
            "this node decides; the old side {}, {} wait for it; {} clients are still there, {} of their writes were not refused",
            state_of(written, of("now_ms")),
            bytes(of("queue_bytes")),
            of("clients_there"),
            of("strays"),
        );
        return;
    }
    let _ = write!(
        out,
        "{}, {} behind",
        text("state"),
        bytes(number("lag_bytes"))
    );
    if shard["follows"] == false && number("copied_bytes") > 0 {
        let (copied, of) = (number("copied_bytes"), number("copy_bytes"));
        let keys = number("copied_keys");
        // (A source that sends while it writes does not know how much it will be.)
        let of = if of == 0 {
            String::new()
        } else {
            format!(" of {}", bytes(of))
        };
        let _ = write!(out, ", {}{of}, {keys} keys", bytes(copied));
    }
    if text("error") != "-" {
        let _ = write!(out, " ({})", text("error"));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hidden_unless_asked_for_and_reports_are_signed() {
        assert_eq!(shown(b"a\nb", true), "a\\nb");
        assert_eq!(
            shown(b"abc", false),
            "sha256:ba7816bf8f01cfea414140de5dae2223"
        );
        assert_eq!(
            signature("abc", None),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            signature("what do ya want for nothing?", Some(b"Jefe")),
            "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_status_reads_well_whatever_is_missing() {
        assert!(text_of(&json!({})).starts_with("phase      -"));
        let status = json!({
            "phase": "reverse", "authority": "this node", "step": "",
            "link": {"state": "none", "follows": false, "copied_bytes": 5, "copy_bytes": 10,
                "scan": {"passes": 2, "whole": false, "losses": 1, "lost": "gone", "unfit": 1, "unfit_error": "too large"}},
            "reverse": {"offset": 100, "acknowledged": 90},
            "pauses": [{"what": "flip", "us": 41}], "warnings": ["w"],
            "moving": "5-6",
            "shards": [{"number": 1, "source": "a:2", "slots": "0-9", "state": "copying", "follows": false,
                "lag_bytes": 0, "copied_bytes": 5, "copy_bytes": 0, "copied_keys": 7, "error": "lost"},
                {"number": 2, "source": "a:3", "keys": "x:*", "state": "none",
                "written": {"up": true, "queue_bytes": 7, "clients_there": 1, "strays": 0}}],
        });
        let text = text_of(&status);
        for part in [
            "(50 %)",
            "old side   10 B behind",
            "flip: 41 us",
            "shard 1    a:2, slots 0-9: copying, 0 B behind, 5 B, 7 keys (lost)",
            "shard 2    a:3, keys x:*: this node decides; the old side takes what is written, 7 B wait for it; 1 clients",
            "moving     the slots 5-6",
            "by scan    a whole pass is needed; 2 passes",
            "events lost 1 times, the last time: gone",
            "1 keys cannot be taken in: too large",
            "warning    w",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
