//! What TLS costs: CPU per request under redis-benchmark over TLS, paired by round.
//!
//! Both servers have the same certificate of an elliptic curve and speak what they agree upon with redis-benchmark's
//! OpenSSL by themselves, TLS 1.3. The connections of a run shake hands once, 50 of them: their share of a request is small.

use std::io;
use std::process::{Command, Stdio};

use crate::Bench;
use crate::client::Fill;
use crate::process::{Plan, Server};
use crate::report::Report;
use crate::speed::{Case, HEADS, case, measure, tell};

/// Of redis-server's CPU, for each case.
const TARGET: f64 = 0.80;
const KEYS: u64 = 100_000;

const CASES: &[Case] = &[
    case("TLS GET P1", "-t get", 30_000, TARGET).unpipelined(9),
    case("TLS SET P1", "-t set", 30_000, TARGET).unpipelined(9),
    case("TLS GET P16", "-t get", 200_000, TARGET),
    case("TLS SET P16", "-t set", 200_000, TARGET),
];

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let folder = std::env::temp_dir().join(format!("compare-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = compare(bench, &mut report, &folder.display().to_string());
    // Nothing is owed if it is gone already.
    let _ = std::fs::remove_dir_all(&folder);
    outcome.map(|()| report)
}

fn compare(bench: &Bench<'_>, report: &mut Report, folder: &str) -> io::Result<()> {
    let (certificate, key) = (format!("{folder}/cert.pem"), format!("{folder}/key.pem"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(' '))
        .args(["-keyout", &key, "-out", &certificate])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return Err(io::Error::other(
            "openssl, which makes the certificate, is not found or fails",
        ));
    }
    let tls = format!(
        "--tls-port {{tls_port}} --tls-cert-file {certificate} --tls-key-file {key} --tls-auth-clients no \
         --tls-ca-cert-file {certificate}"
    );
    let servers = [Plan::redis(bench), Plan::meridian(bench)]
        .into_iter()
        .map(|plan| Server::start(bench, &plan.with(&tls)))
        .collect::<io::Result<Vec<Server>>>()?;
    let fill = Fill {
        value_bytes: 64,
        expiring: false,
        one_tag: false,
        pipeline: 100,
    };
    for server in &servers {
        fill.keys(server, 0..KEYS)?;
    }
    report.note(
        "Server on CPU 0, redis-benchmark --tls on CPU 1, 50 connections, 64-byte values; figures as in speed.md.",
    );
    report.heads(HEADS);
    for case in CASES {
        let rounds = measure(bench, case, &servers)?;
        tell(report, case, &servers, &rounds);
    }
    Ok(())
}
