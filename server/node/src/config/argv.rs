//! The command line: redis-server's, which is a configuration file written in arguments.

use std::path::{Path, PathBuf};

use super::files::{Files, os_text, path_of};
use super::load::{LoadError, Loaded, Loader, Origin};
use super::words::{quoted, split_words};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Start {
    /// Serve with this configuration.
    Run(Box<Loaded>),
    /// Print `help_text` and end.
    Help,
    /// Print `version_text` and end.
    Version,
    /// Print `print_docs` and end.
    Docs,
}

/// What the arguments say, before any file is read.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    path: Option<PathBuf>,
    standard_input: bool,
    /// A line for each option.
    lines: Vec<u8>,
}

/// Reads the arguments (without the program's name) and what they name: the file first, then standard
/// input, then the options; the last word on an option counts.
pub fn from_args(args: &[Vec<u8>], files: &dyn Files) -> Result<Start, LoadError> {
    match args.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Ok(Start::Version),
        Some(b"-h" | b"--help") => return Ok(Start::Help),
        Some(b"--print-docs") => return Ok(Start::Docs),
        _ => {}
    }
    let arguments = Arguments::of(args);
    let mut loader = Loader::new(files);
    let path = match &arguments.path {
        Some(path) => Some(opened(files.absolute(path), path)?),
        None => None,
    };
    if let Some(path) = &path {
        loader.file(path)?;
    }
    if arguments.standard_input {
        let text = opened(files.read_standard_input(), Path::new("-"))?;
        loader.text(&text, &Origin::StandardInput)?;
    }
    loader.text(&arguments.lines, &Origin::CommandLine)?;
    loader
        .finish(path)
        .map(|loaded| Start::Run(Box::new(loaded)))
}

fn opened<T>(result: std::io::Result<T>, path: &Path) -> Result<T, LoadError> {
    result.map_err(|failure| LoadError::Open {
        path: path.into(),
        reason: os_text(&failure),
    })
}

impl Arguments {
    /// `--name` begins a line, other arguments are its values. Right after a bare `--name` even an argument
    /// with dashes is a value, but for `--save`, which may stand without one.
    fn of(args: &[Vec<u8>]) -> Self {
        let mut all = Self {
            path: None,
            standard_input: false,
            lines: Vec::new(),
        };
        let mut options = args;
        if let Some((first, rest)) = args.split_first()
            && !first.starts_with(b"-")
        {
            all.path = Some(path_of(first));
            options = rest;
        }
        let first_is_option = all.path.is_none();
        let mut awaits_value = false;
        for (index, arg) in options.iter().enumerate() {
            let next = options.get(index + 1);
            let at_an_end = (index == 0 && first_is_option) || next.is_none();
            if arg == b"-" && at_an_end {
                all.standard_input = true;
            } else if let Some(name) = arg.strip_prefix(b"--")
                && !awaits_value
            {
                awaits_value = all.begin_line(name, arg, next);
            } else {
                all.lines.extend(quoted(arg));
                all.lines.push(b' ');
                awaits_value = false;
            }
        }
        all
    }

    /// Begins an option's line; tells whether a value must follow. `--port 7000` may be one argument.
    fn begin_line(&mut self, name: &[u8], arg: &[u8], next: Option<&Vec<u8>>) -> bool {
        if !self.lines.is_empty() {
            self.lines.push(b'\n');
        }
        // What cannot be one line is no option's name; the reader then refuses it.
        self.lines
            .extend(name.iter().map(|&b| if b == b'\n' { b' ' } else { b }));
        self.lines.push(b' ');
        let alone = split_words(arg).is_some_and(|words| words.len() == 1);
        if !alone {
            return false;
        }
        let next_is_option = next.is_none_or(|next| next.starts_with(b"--"));
        if next_is_option && arg.eq_ignore_ascii_case(b"--save") {
            self.lines.extend(b"\"\"");
            return false;
        }
        true
    }
}

/// The answer to `--version`.
pub fn version_text() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let bits = usize::BITS;
    let redis = crate::admin::VERSION_REPORTED;
    format!("Meridian server v={version} redis_version={redis} bits={bits}")
}

/// The answer to `--help`.
pub fn help_text() -> &'static str {
    "\
Usage: meridian [/path/to/redis.conf] [--option value ...] [-]
       meridian -               read the configuration from standard input
       meridian -v | --version
       meridian -h | --help
       meridian --print-docs    print every option, in Markdown
       meridian unseal IN OUT [/path/to/redis.conf] [--option value ...]
                                write a sealed snapshot IN in the clear to OUT, with the keys that the options name
       meridian migrate COMMAND ...
                                move an application from a Redis to a running server: meridian migrate --help

The file is read first, then standard input, then the options: the last word on an option counts.
Every option of redis.conf can be given as --option.

Examples:
       meridian
       meridian /etc/redis/redis.conf --port 7000
       meridian --bind 127.0.0.1 ::1 --save \"\" --cores 4
       echo 'maxmemory 128mb' | meridian -
"
}

#[cfg(test)]
mod tests {
    use super::super::fields::Config;
    use super::super::load::tests::Table;
    use super::*;

    fn run(args: &[&str], files: &Table) -> Result<Loaded, LoadError> {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        match from_args(&args, files)? {
            Start::Run(loaded) => Ok(*loaded),
            other => panic!("{other:?}"),
        }
    }

    fn config(args: &[&str]) -> Config {
        run(args, &Table::default()).unwrap().config
    }

    #[test]
    fn options_are_lines() {
        let got = config(&[
            "--port",
            "7000",
            "--bind",
            "127.0.0.1",
            "::1",
            "--requirepass",
            "a b",
        ]);
        assert_eq!(got.port, 7000);
        assert_eq!(got.bind, ["127.0.0.1", "::1"]);
        assert_eq!(got.requirepass.as_bytes(), b"a b");
        assert_eq!(config(&["--port 7001", "--timeout", "5"]).port, 7001);
        assert_eq!(config(&[]).port, 6379);
    }

    #[test]
    fn save_has_its_quirks() {
        assert!(
            config(&["--save", "900", "1", "--save", ""])
                .save
                .is_empty()
        );
        assert!(config(&["--save"]).save.is_empty());
        let both = config(&["--save", "--port", "1"]);
        assert!(both.save.is_empty());
        assert_eq!(both.port, 1);
        assert_eq!(config(&["--save", "3600 1 300 100"]).save.len(), 2);
        assert_eq!(
            config(&["--save", "3600", "1", "--save", "300", "100"])
                .save
                .len(),
            2
        );
    }

    #[test]
    fn a_value_may_look_like_an_option() {
        assert_eq!(
            config(&["--masterauth", "--port", "--timeout", "3"]).timeout_s,
            3
        );
        let refused = run(&["--port", "--timeout", "3"], &Table::default()).unwrap_err();
        assert!(
            refused.to_string().contains("wrong number of arguments"),
            "{refused}"
        );
    }

    #[test]
    fn the_last_word_counts() {
        let files = Table::of(&[
            ("m.conf", "port 1\ntimeout 1\nhz 20"),
            ("-", "port 2\ntimeout 2"),
        ]);
        let loaded = run(&["m.conf", "--port", "3", "-"], &files).unwrap();
        assert_eq!(
            (
                loaded.config.port,
                loaded.config.timeout_s,
                loaded.config.hz
            ),
            (3, 2, 20)
        );
        assert_eq!(loaded.path, Some("m.conf".into()));
        assert_eq!(run(&["-", "--hz", "30"], &files).unwrap().config.hz, 30);
    }

    #[test]
    fn help_version_and_docs_come_first() {
        let start = |arg: &str| from_args(&[arg.as_bytes().to_vec()], &Table::default());
        assert!(matches!(start("--help"), Ok(Start::Help)));
        assert!(matches!(start("-v"), Ok(Start::Version)));
        assert!(matches!(start("--print-docs"), Ok(Start::Docs)));
    }

    #[test]
    fn a_missing_file_and_a_bad_option_are_told() {
        let missing = run(&["none.conf"], &Table::default())
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("can't open config file 'none.conf': No such file"),
            "{missing}"
        );
        let bad = run(&["--nonsense", "1"], &Table::default())
            .unwrap_err()
            .to_string();
        assert!(bad.contains(">>> 'nonsense \"1\"'\nBad directive"), "{bad}");
    }
}
