//! How a request is described: one line of a small grammar, expanded at random.
//!
//! ```text
//!   SET <str> <val> *( (EX <sec> | PX <ms> | KEEPTTL) | (NX | XX) | GET )
//!
//!   WORD      as it is; capitals (and what begins with `!`) are counted as options
//!   <kind>    a random argument (values.rs)
//!   [ a ]     a, or nothing              ( a | b )   one of them
//!   { a }     a 1..=4 times              *( a | b )  any of them, in any order
//!   {+ a }    a 1..=200 times
//! ```
//!
//! Every option has a `Mark`: the number under which its uses are counted (coverage.rs).

use super::coverage::{Coverage, Mark};
use super::values::{self, Draft, Kind};
use crate::rng::Rng;

/// Commands whose second word is part of the name.
const CONTAINERS: [&str; 11] = [
    "OBJECT", "CONFIG", "CLIENT", "COMMAND", "MEMORY", "DEBUG", "ACL", "XGROUP", "XINFO", "SCRIPT",
    "FUNCTION",
];
/// In how many of 100 cases `[ ]` is taken.
const MAYBE_PERCENT: usize = 50;
/// In how many of 100 cases an alternative of `*( )` is taken.
const ANY_PERCENT: usize = 35;
/// Repetitions of `{ }`.
const FEW_MAX: usize = 4;
/// Repetitions of `{+ }`: most are few, some cross the thresholds of the encodings.
const MANY: [(usize, usize, usize); 3] = [(55, 1, 2), (91, 2, 9), (100, 20, 200)];
/// In how many of 100 cases a word is written in lower, and in mixed case.
const LOWER_PERCENT: usize = 8;
const MIXED_PERCENT: usize = 4;

/// Why a template cannot be read. A fault of the tables here, never of a server.
#[derive(Debug, PartialEq, Eq)]
pub enum GrammarError {
    /// A bracket that is not closed, or closes nothing.
    Bracket(String),
    /// An argument of a kind that does not exist.
    Kind(String),
    /// No command's name in front.
    Name(String),
}

impl std::fmt::Display for GrammarError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bracket(template) => write!(f, "brackets do not match in '{template}'"),
            Self::Kind(kind) => write!(f, "no argument is of kind '{kind}'"),
            Self::Name(template) => write!(f, "no command in '{template}'"),
        }
    }
}

/// A template that has been read.
#[derive(Debug)]
pub(super) struct Template {
    /// `ZADD`, `OBJECT ENCODING`.
    pub(super) name: String,
    /// What counts its uses.
    pub(super) mark: Mark,
    nodes: Vec<Node>,
    /// Words of the options, for wrong requests.
    pub(super) options: Vec<String>,
    /// True if the request sets a deadline: then random changes must not make it a near one.
    pub(super) timed: bool,
}

#[derive(Debug)]
enum Node {
    Word(String, Option<Mark>),
    Arg(Kind),
    Maybe(Vec<Node>, Option<Mark>),
    OneOf(Vec<Vec<Node>>),
    AnyOf(Vec<Vec<Node>>),
    Few(Vec<Node>),
    Many(Vec<Node>),
}

impl Template {
    /// Reads a template and gives its options their marks.
    pub(super) fn parse(text: &str, coverage: &mut Coverage) -> Result<Self, GrammarError> {
        let tokens = tokens(text);
        let named = |word: &&str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        };
        let first = tokens.first().copied().filter(named);
        let one_of = (tokens.first() == Some(&"(")).then(|| one_of(&tokens));
        let mut name = first
            .map(str::to_owned)
            .or_else(|| one_of.flatten())
            .ok_or_else(|| GrammarError::Name(text.to_owned()))?;
        let mut name_words = usize::from(first.is_some());
        if CONTAINERS.contains(&name.as_str())
            && let Some(second) = tokens
                .get(1)
                .filter(|word| word.as_bytes().first().is_some_and(u8::is_ascii_uppercase))
        {
            name = format!("{name} {second}");
            name_words = 2;
        }
        let mark = coverage.mark(&name);
        let mut reader = Reader {
            text,
            tokens: &tokens,
            at: 0,
            name: &name,
            name_words,
            options: Vec::new(),
            timed: false,
            coverage,
        };
        let mut alternatives = reader.alternatives(None)?;
        let (options, timed) = (reader.options, reader.timed);
        let nodes = alternatives.pop().unwrap_or_default();
        Ok(Self {
            name,
            mark,
            nodes,
            options,
            timed,
        })
    }

    /// A random request of this form.
    pub(super) fn expand(&self, rng: &mut Rng, draft: &mut Draft) {
        draft.marks.push(self.mark);
        expand_all(&self.nodes, rng, draft);
    }
}

/// The name of a template that begins with a choice of commands: `LPUSH/RPUSH`.
fn one_of(tokens: &[&str]) -> Option<String> {
    let end = tokens.iter().position(|token| *token == ")")?;
    let words = tokens.get(1..end)?;
    let names = words.iter().filter(|word| **word != "|").copied();
    Some(names.collect::<Vec<_>>().join("/"))
}

/// Cuts at blanks and brackets.
fn tokens(text: &str) -> Vec<&str> {
    const OPENERS: [&str; 2] = ["*(", "{+"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if let Some(opener) = OPENERS.iter().find(|opener| rest.starts_with(**opener)) {
            opener.len()
        } else if rest.starts_with(['[', ']', '(', ')', '{', '}', '|']) {
            1
        } else {
            rest.find([' ', '[', ']', '(', ')', '{', '}', '|'])
                .unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// Reads tokens to nodes, by recursive descent.
struct Reader<'t> {
    text: &'t str,
    tokens: &'t [&'t str],
    at: usize,
    name: &'t str,
    /// How many words in front are the name.
    name_words: usize,
    options: Vec<String>,
    timed: bool,
    coverage: &'t mut Coverage,
}

impl Reader<'_> {
    /// Nodes separated by `|` up to the closing bracket, or to the end.
    fn alternatives(&mut self, close: Option<&str>) -> Result<Vec<Vec<Node>>, GrammarError> {
        let mut all = vec![Vec::new()];
        loop {
            let token = self.tokens.get(self.at).copied();
            self.at += 1;
            match token {
                None if close.is_none() => return Ok(all),
                Some(token) if Some(token) == close => return Ok(all),
                Some("|") if close.is_some() => all.push(Vec::new()),
                None | Some("]" | ")" | "}" | "|") => {
                    return Err(GrammarError::Bracket(self.text.to_owned()));
                }
                Some(token) => {
                    let node = self.node(token)?;
                    if let Some(last) = all.last_mut() {
                        last.push(node);
                    }
                }
            }
        }
    }

    fn node(&mut self, token: &str) -> Result<Node, GrammarError> {
        Ok(match token {
            "[" => {
                let inner = self.inner("]")?;
                let mark = self.label(&inner);
                Node::Maybe(inner, mark)
            }
            "{" => Node::Few(self.inner("}")?),
            "{+" => Node::Many(self.inner("}")?),
            "(" => Node::OneOf(self.alternatives(Some(")"))?),
            "*(" => Node::AnyOf(self.alternatives(Some(")"))?),
            kind if kind.starts_with('<') => {
                let kind = Kind::parse(kind).ok_or_else(|| GrammarError::Kind(kind.to_owned()))?;
                self.timed |= kind.is_time();
                Node::Arg(kind)
            }
            word => self.word(word),
        })
    }

    fn word(&mut self, word: &str) -> Node {
        let bare = word.strip_prefix('!').unwrap_or(word);
        let capital = word.starts_with(|c: char| c.is_ascii_uppercase() || c == '!');
        let mark = if self.at <= self.name_words || !capital {
            None
        } else {
            self.options.push(bare.to_owned());
            Some(self.coverage.mark(&format!("{} {bare}", self.name)))
        };
        Node::Word(bare.to_owned(), mark)
    }

    fn inner(&mut self, close: &str) -> Result<Vec<Node>, GrammarError> {
        let mut all = self.alternatives(Some(close))?;
        match (all.pop(), all.is_empty()) {
            (Some(nodes), true) => Ok(nodes),
            _ => Err(GrammarError::Bracket(self.text.to_owned())),
        }
    }

    /// An option without a word is counted by the kind of its first argument.
    fn label(&mut self, nodes: &[Node]) -> Option<Mark> {
        let wordless = nodes.iter().all(|node| matches!(node, Node::Arg(_)));
        match nodes.first() {
            Some(Node::Arg(kind)) if wordless => Some(self.coverage.mark(&format!(
                "{} <{}>",
                self.name,
                kind.name()
            ))),
            _ => None,
        }
    }
}

fn expand_all(nodes: &[Node], rng: &mut Rng, draft: &mut Draft) {
    for node in nodes {
        expand(node, rng, draft);
    }
}

fn expand(node: &Node, rng: &mut Rng, draft: &mut Draft) {
    match node {
        Node::Word(word, mark) => {
            draft.words.push(with_case(word, rng));
            draft.marks.extend(mark);
        }
        Node::Arg(kind) => values::write(*kind, rng, draft),
        Node::Maybe(nodes, mark) => {
            if rng.percent(MAYBE_PERCENT) {
                draft.marks.extend(mark);
                expand_all(nodes, rng, draft);
            }
        }
        Node::OneOf(choices) => {
            if let Some(nodes) = rng.pick(choices) {
                expand_all(nodes, rng, draft);
            }
        }
        Node::AnyOf(choices) => {
            let mut taken: Vec<_> = choices
                .iter()
                .filter(|_| rng.percent(ANY_PERCENT))
                .collect();
            rng.shuffle(&mut taken);
            for nodes in taken {
                expand_all(nodes, rng, draft);
            }
        }
        Node::Few(nodes) => {
            for _ in 0..=rng.below(FEW_MAX) {
                expand_all(nodes, rng, draft);
            }
        }
        Node::Many(nodes) => {
            let roll = rng.below(100);
            let range = MANY.iter().find(|(below, ..)| roll < *below);
            let (_, low, high) = range.copied().unwrap_or((100, 1, 2));
            for _ in 0..low + rng.below(high - low + 1) {
                expand_all(nodes, rng, draft);
            }
        }
    }
}

/// The word, mostly as written.
fn with_case(word: &str, rng: &mut Rng) -> Vec<u8> {
    let roll = rng.below(100);
    if !word.starts_with(|c: char| c.is_ascii_uppercase()) || roll >= LOWER_PERCENT + MIXED_PERCENT
    {
        return word.as_bytes().to_vec();
    }
    let lower = |b: u8| b.to_ascii_lowercase();
    if roll < LOWER_PERCENT {
        return word.bytes().map(lower).collect();
    }
    word.bytes()
        .map(|b| if rng.percent(50) { lower(b) } else { b })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Coverage, Draft, GrammarError, Rng, Template, tokens};

    fn lines(text: &str) -> Vec<String> {
        let template = Template::parse(text, &mut Coverage::default()).unwrap();
        let mut rng = Rng::new(3);
        (0..200)
            .map(|_| {
                let mut draft = Draft::default();
                template.expand(&mut rng, &mut draft);
                crate::text::request_line(&draft.words).to_uppercase()
            })
            .collect()
    }

    #[test]
    fn tokens_are_cut_at_brackets() {
        assert_eq!(
            tokens("A *(B|[<c>]){+ d }"),
            ["A", "*(", "B", "|", "[", "<c>", "]", ")", "{+", "d", "}"]
        );
    }

    #[test]
    fn forms_expand() {
        let seen = lines("X *( (A|B) | C )");
        for form in ["X", "X A", "X B", "X C", "X A C", "X C B"] {
            assert!(seen.iter().any(|line| line == form), "{form}");
        }
        assert!(
            !seen
                .iter()
                .any(|line| line.contains("A B") || line.contains("C C"))
        );
        assert!(
            lines("X { a }")
                .iter()
                .all(|line| (1..=4).contains(&line.matches(" A").count()))
        );
        assert!(
            lines("X {+ a }")
                .iter()
                .any(|line| line.matches(" A").count() > 20)
        );
    }

    #[test]
    fn options_are_counted_under_their_command() {
        let mut coverage = Coverage::default();
        let template =
            Template::parse("OBJECT FREQ A [<val>] [B <val>] c !d", &mut coverage).unwrap();
        assert_eq!(template.name, "OBJECT FREQ");
        assert_eq!(template.options, ["A", "B", "d"]);
        let names: Vec<_> = coverage.rows().map(|row| row.name.to_owned()).collect();
        assert_eq!(
            names,
            [
                "OBJECT FREQ",
                "OBJECT FREQ A",
                "OBJECT FREQ <val>",
                "OBJECT FREQ B",
                "OBJECT FREQ d"
            ]
        );
    }

    #[test]
    fn broken_templates() {
        let parse = |text: &str| {
            Template::parse(text, &mut Coverage::default())
                .map(|_| ())
                .unwrap_err()
        };
        assert!(matches!(parse("A ( b"), GrammarError::Bracket(_)));
        assert!(matches!(parse("A b )"), GrammarError::Bracket(_)));
        assert!(matches!(parse("A [ b | c ]"), GrammarError::Bracket(_)));
        assert!(matches!(parse("A <nosuch>"), GrammarError::Kind(_)));
        assert!(matches!(parse("<val>"), GrammarError::Name(_)));
    }
}
