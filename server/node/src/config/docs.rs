//! docs/configuration.md, printed from the rows.

use std::fmt::Write as _;

use super::row::{Change, Row, Standing};
use super::rows::groups;

const HEAD: &str = "\
# Configuration

Printed by `meridian --print-docs`; the source is `server/node/src/config/rows`.

A `redis.conf` is read as it is: names in any case, `\"quoted\"` values, `include` with wildcards. Every option
can also be given as `--name value` on the command line. *Live* options can be changed by `CONFIG SET`,
*start* options only before the server starts, *guarded* ones by those whom `enable-protected-configs` names.

Standing: **works** has its effect; **needless** is accepted, and Meridian's design leaves it nothing to do;
**later** is accepted and kept for a later version; **refused** takes only its default.
";

/// Every option as Markdown.
pub fn print_docs() -> String {
    let mut text = HEAD.to_owned();
    for (subject, rows) in groups() {
        let _ = write!(
            text,
            "\n## {subject}\n\n| option | default | change | standing | what it does |\n|---|---|---|---|---|\n"
        );
        for row in *rows {
            text.push_str(&row_line(row));
        }
    }
    text
}

fn row_line(row: &Row) -> String {
    let mut names = format!("`{}`", row.name);
    for alias in row.aliases {
        let _ = write!(names, ", `{alias}`");
    }
    let default = if row.default.is_empty() {
        "\"\""
    } else {
        row.default
    };
    let change = match row.change {
        Change::Live | Change::NotWhileLoading => "live",
        Change::Protected | Change::ProtectedNotWhileLoading => "guarded",
        Change::AtStart => "start",
    };
    let standing = match row.standing {
        Standing::Works => "works".to_owned(),
        Standing::Needless(why) => format!("needless: {why}"),
        Standing::Later(why) => format!("later: {why}"),
        Standing::Refused(why) => format!("refused: {why}"),
    };
    format!(
        "| {names} | `{default}` | {change} | {standing} | {} |\n",
        row.summary
    )
}

#[cfg(test)]
mod tests {
    use super::super::rows::rows;
    use super::*;

    #[test]
    fn every_row_is_one_line_of_its_table() {
        let text = print_docs();
        for row in rows() {
            let line = row_line(row);
            assert!(text.contains(&line));
            assert_eq!(line.matches('|').count(), 6, "{line}");
        }
    }
}
