//! What of a request must not reach logs or other clients: the words of its secrets.

use protocol::Args;

use crate::config;
use crate::table::Row;

/// What stands for a secret.
pub const REDACTED: &[u8] = b"(redacted)";

/// Whether a word of a request is secret.
pub fn is_secret(row: &Row, args: &Args<'_>, at: usize) -> bool {
    let is = |at: usize, name: &[u8]| {
        let word = args.word(at);
        word.is_some_and(|word| word.eq_ignore_ascii_case(name))
    };
    match row.spec.name {
        "auth" => at >= 1,
        "acl|setuser" => at >= 2,
        // HELLO version [AUTH user password] [SETNAME name]
        "hello" => (at >= 3 && is(at - 1, b"auth")) || (at >= 4 && is(at - 2, b"auth")),
        // MIGRATE ... [AUTH password] [AUTH2 user password]
        "migrate" => {
            (at >= 7 && (is(at - 1, b"auth") || is(at - 1, b"auth2")))
                || (at >= 8 && is(at - 2, b"auth2"))
        }
        "config|set" => {
            let name = at.checked_sub(1).and_then(|at| args.word(at));
            at % 2 == 1
                && name.is_some_and(|name| config::find(name).is_some_and(|(row, _)| row.secret))
        }
        _ => false,
    }
}

/// A word of a request as others may see it.
pub fn shown<'a>(row: &Row, args: &Args<'a>, at: usize) -> &'a [u8] {
    if is_secret(row, args, at) {
        return REDACTED;
    }
    args.word(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use protocol::Args;
    use protocol::args::flatten;

    use super::shown;
    use crate::config::Config;
    use crate::table::Table;

    #[test]
    fn secrets_are_not_shown() {
        let table = Table::build(&Config::default());
        for (request, expected) in [
            ("AUTH a b", "AUTH (redacted) (redacted)"),
            (
                "HELLO 3 AUTH a b SETNAME c",
                "HELLO 3 AUTH (redacted) (redacted) SETNAME c",
            ),
            (
                "CONFIG SET maxmemory 1 requirepass x",
                "CONFIG SET maxmemory 1 requirepass (redacted)",
            ),
            (
                "MIGRATE h 1 k 0 5 AUTH2 a b COPY",
                "MIGRATE h 1 k 0 5 AUTH2 (redacted) (redacted) COPY",
            ),
            ("SET auth x", "SET auth x"),
        ] {
            let words: Vec<Vec<u8>> = request.split(' ').map(|w| w.as_bytes().to_vec()).collect();
            let (mut buf, mut found) = (Vec::new(), Vec::new());
            flatten(&words, &mut buf, &mut found);
            let args = Args::new(&buf, &found);
            let row = table.find(&words[0]).unwrap();
            let row = table.subcommand(row, &words[1]).unwrap_or(row);
            let seen: Vec<String> = (0..words.len())
                .map(|at| String::from_utf8_lossy(shown(row, &args, at)).into_owned())
                .collect();
            assert_eq!(seen.join(" "), expected);
        }
    }
}
