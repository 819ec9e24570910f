//! How often each command and each option was played.

use std::collections::HashMap;

/// The number of a command or option in the table.
pub(super) type Mark = usize;

/// The table, in the order of the catalogue.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    rows: Vec<Row>,
    index: HashMap<String, Mark>,
}

/// One command or option.
#[derive(Debug)]
pub(super) struct Row {
    /// `SET` or `SET KEEPTTL`.
    pub(super) name: String,
    /// Times played.
    pub(super) uses: u64,
    /// Times that the oracle's reply was an error.
    pub(super) errors: u64,
}

impl Coverage {
    /// The mark of a name, new or old.
    pub(super) fn mark(&mut self, name: &str) -> Mark {
        if let Some(mark) = self.index.get(name) {
            return *mark;
        }
        let mark = self.rows.len();
        self.rows.push(Row {
            name: name.to_owned(),
            uses: 0,
            errors: 0,
        });
        self.index.insert(name.to_owned(), mark);
        mark
    }

    /// Counts one request with its options.
    pub(super) fn count(&mut self, marks: &[Mark], error: bool) {
        for mark in marks {
            if let Some(row) = self.rows.get_mut(*mark) {
                row.uses += 1;
                row.errors += u64::from(error);
            }
        }
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// Tab-separated, with a heading.
    pub(super) fn to_tsv(&self) -> String {
        let mut out = String::from("command_or_option\tuses\terror_replies\n");
        for Row { name, uses, errors } in &self.rows {
            out.push_str(&format!("{name}\t{uses}\t{errors}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Coverage;

    #[test]
    fn uses_are_counted() {
        let mut coverage = Coverage::default();
        let (get, set) = (coverage.mark("GET"), coverage.mark("SET"));
        assert_eq!(coverage.mark("GET"), get);
        coverage.count(&[get], false);
        coverage.count(&[get, set, 99], true);
        assert!(coverage.to_tsv().ends_with("GET\t2\t1\nSET\t1\t1\n"));
    }
}
