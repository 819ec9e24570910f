//! The source's clock, asked for from time to time: over a link of its own, since that of the stream carries nothing else.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerParser};
use protocol::request;

use super::{Line, Login, Target};
use crate::config::Config;
use crate::control::dial::Stream;
use crate::node::Node;
use crate::start::unix_ms;
use crate::tls;

/// How often it is asked for while requests come whose deadlines are relative.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// How long each step of that may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A link to a target, each step within a time.
///
/// # Errors
/// Those of the network and of TLS.
pub(super) fn dial(config: &Config, target: &Target, timeout: Duration) -> io::Result<Stream> {
    let tls = wants_tls(config, target)
        .then(|| tls::client_config(config))
        .transpose()
        .map_err(io::Error::other)?;
    let stream = Stream::dial(&target.host, target.port, timeout, tls)?;
    stream.set_timeout(timeout)?;
    Ok(stream)
}

/// Whether a target is spoken to over TLS.
pub(super) fn wants_tls(config: &Config, target: &Target) -> bool {
    match &target.login {
        Login::OfConfig => config.tls_replication,
        Login::As { tls, .. } => *tls,
    }
}

/// Whom to log in as at a target; an empty password is none.
pub(super) fn login(config: &Config, target: &Target) -> (Vec<u8>, Vec<u8>) {
    let (user, password) = match &target.login {
        Login::OfConfig => (&config.master_user, &config.master_auth),
        Login::As { user, password, .. } => (user, password),
    };
    (user.as_bytes().to_vec(), password.as_bytes().to_vec())
}

impl Line {
    /// The source's clock was told within a time of our asking.
    pub(super) fn note_clock(&self, time_us: u64, within: Duration) {
        let now_us = unix_ms().saturating_mul(1000);
        let middle_us = now_us.saturating_sub(within.as_micros() as u64 / 2);
        let ahead_us = time_us.cast_signed().wrapping_sub(middle_us.cast_signed());
        self.set_clock(ahead_us);
    }
}

/// Asks for the clock, in a thread of its own; what comes too late, or not at all, changes nothing.
pub(super) fn ask(node: &'static Node, line: &Arc<Line>, target: &Arc<Target>) {
    let (line, target) = (Arc::clone(line), Arc::clone(target));
    let run = move || {
        // (The stream's own link tells what is wrong with the source.)
        if let Ok(Some((time_us, within))) = ask_here(&node.config(), &target) {
            line.note_clock(time_us, within);
        }
    };
    // Without a thread the clock stays as it was.
    let _thread = std::thread::Builder::new()
        .name("source-clock".to_owned())
        .spawn(run);
}

fn ask_here(config: &Config, target: &Target) -> io::Result<Option<(u64, Duration)>> {
    let mut stream = dial(config, target, TIMEOUT)?;
    let (user, password) = login(config, target);
    let mut out = Vec::new();
    match (user.is_empty(), password.is_empty()) {
        (_, true) => {}
        (true, false) => request::encode(&[&b"AUTH"[..], &password], &mut out),
        (false, false) => request::encode(&[&b"AUTH"[..], &user, &password], &mut out),
    }
    let has_login = !out.is_empty();
    request::encode(&["TIME"], &mut out);
    let asked = Instant::now();
    stream.write_all(&out)?;
    let (mut input, mut piece, mut parser) = (Vec::new(), [0; 512], AnswerParser::default());
    let mut answers = Vec::new();
    while answers.len() < 1 + usize::from(has_login) {
        let parsed = parser
            .parse(&input)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if let Some((answer, bytes)) = parsed {
            input.drain(..bytes);
            answers.push(answer);
            continue;
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => input.extend_from_slice(&piece[..read]),
        }
    }
    Ok(answers
        .pop()
        .and_then(|answer| time_of(&answer))
        .map(|time_us| (time_us, asked.elapsed())))
}

/// What TIME answers, unix us.
pub(super) fn time_of(answer: &Answer) -> Option<u64> {
    let Answer::Array(parts) = answer else {
        return None;
    };
    let number = |at: usize| match parts.get(at)? {
        Answer::Bulk(text) => core::str::from_utf8(text).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    Some(
        number(0)?
            .saturating_mul(1_000_000)
            .saturating_add(number(1)?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_from_what_time_answers() {
        let bulk = |text: &str| Answer::Bulk(text.as_bytes().to_vec());
        let told = Answer::Array(vec![bulk("1700000000"), bulk("123")]);
        assert_eq!(time_of(&told), Some(1_700_000_000_000_123));
        for bad in [
            Answer::Error(b"NOPERM".to_vec()),
            Answer::Array(vec![bulk("1")]),
            Answer::Array(vec![bulk("x"), bulk("1")]),
        ] {
            assert_eq!(time_of(&bad), None, "{bad:?}");
        }
        let source = Line::default();
        source.note_clock(unix_ms() * 1000 + 5_000_000, Duration::ZERO);
        assert!((4_000_000..=5_000_000).contains(&source.source_clock_us()));
    }
}
