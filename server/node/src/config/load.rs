//! redis.conf into a `Config`: lines, directives that are no options, includes, and errors with their place.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::fields::Config;
use super::files::{Files, is_pattern, os_text};
use super::row::{Row, Source, Standing};
use super::rows::{PASSED_OVER, find, rows};
use super::several::{Rename, UserLine};
use super::value::{Reject, parse_flag, parse_text};
use super::words::split_words;

/// How deep files may include files, and how many may be included in all: a file that includes itself ends.
const INCLUDE_DEPTH_MAX: usize = 16;
const INCLUDES_MAX: usize = 1000;

/// A configuration as it was started with.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The options.
    pub config: Config,
    /// The file that CONFIG REWRITE writes, absolute.
    pub path: Option<PathBuf>,
    /// Lines for the log: what was asked for and does nothing, and why.
    pub notices: Vec<String>,
}

/// Where a line came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Standard input.
    StandardInput,
    /// The command line's options, as if they were lines.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the configuration file {}", path.display()),
            Self::StandardInput => f.write_str("the configuration from standard input"),
            Self::CommandLine => f.write_str("the options of the command line"),
        }
    }
}

/// Why the configuration was not taken. Its text is for standard error; the process then ends with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// A line is wrong.
    Line {
        /// Where it stands.
        origin: Origin,
        /// Its number, from 1.
        number: usize,
        /// The line, its values left out where they are secret.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The options do not go together, or name what cannot be used.
    Whole(String),
    /// A file could not be read.
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Self::Open { path, reason } => {
                write!(
                    f,
                    "Fatal error, can't open config file '{}': {reason}",
                    path.display()
                )
            }
            Self::Whole(reason) => {
                write!(
                    f,
                    "\n*** FATAL CONFIG FILE ERROR (Meridian {version}) ***\n{reason}"
                )
            }
            Self::Line {
                origin,
                number,
                line,
                reason,
            } => {
                writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Meridian {version}) ***")?;
                writeln!(f, "Reading {origin}, at line {number}")?;
                write!(f, ">>> '{line}'\n{reason}")
            }
        }
    }
}

/// Why a line was not taken: by itself, or in a file that it includes.
enum Trouble {
    Here(Reject),
    Inside(LoadError),
}

impl From<Reject> for Trouble {
    fn from(reject: Reject) -> Self {
        Self::Here(reject)
    }
}

/// Reads texts one after the other into one configuration: file, standard input, command line.
pub(super) struct Loader<'f> {
    files: &'f dyn Files,
    config: Config,
    /// Rows that some line named.
    named: BTreeSet<&'static str>,
    includes_left: usize,
}

/// Reads one text, as a file of that name would be read.
pub fn load_text(text: &[u8], origin: &Origin, files: &dyn Files) -> Result<Loaded, LoadError> {
    let mut loader = Loader::new(files);
    loader.text(text, origin)?;
    loader.finish(None)
}

impl<'f> Loader<'f> {
    pub(super) fn new(files: &'f dyn Files) -> Self {
        let config = Config::default();
        Self {
            files,
            config,
            named: BTreeSet::new(),
            includes_left: INCLUDES_MAX,
        }
    }

    /// Reads a file; a path with wildcards may name several, or none.
    pub(super) fn file(&mut self, path: &Path) -> Result<(), LoadError> {
        self.file_at(path, 0)
    }

    /// Reads a text.
    pub(super) fn text(&mut self, text: &[u8], origin: &Origin) -> Result<(), LoadError> {
        self.text_at(text, origin, 0)
    }

    /// Checks the whole, makes `dir` absolute, and tells what was asked for in vain.
    pub(super) fn finish(mut self, path: Option<PathBuf>) -> Result<Loaded, LoadError> {
        if self.config.cluster_enabled && self.config.replicaof.is_some() {
            let reason = "replicaof directive not allowed in cluster mode";
            return Err(LoadError::Whole(reason.to_owned()));
        }
        let dir = self.files.enter(Path::new(&self.config.dir));
        let dir = dir.map_err(|failure| LoadError::Whole(os_text(&failure)))?;
        self.config.dir = dir.to_string_lossy().into_owned();
        self.check_log_file()?;
        let mut notices = self.notices();
        if self.config.cluster_enabled && self.config.databases > 1 {
            let databases = self.config.databases;
            notices.push(format!("databases {databases}: a cluster has one database"));
            self.config.databases = 1;
        }
        self.config.settle();
        Ok(Loaded {
            config: self.config,
            path,
            notices,
        })
    }

    fn check_log_file(&self) -> Result<(), LoadError> {
        if self.config.logfile.is_empty() {
            return Ok(());
        }
        let path = Path::new(&self.config.dir).join(&self.config.logfile);
        self.files.try_append(&path).map_err(|failure| {
            LoadError::Whole(format!("Can't open the log file: {}", os_text(&failure)))
        })
    }

    /// One line for each option that was named, differs from its default, and has no effect (yet).
    fn notices(&self) -> Vec<String> {
        let base = Config::default();
        let told = |row: &&Row| {
            self.named.contains(row.name) && row.shown(&self.config) != row.shown(&base)
        };
        let line = |row: &Row| match row.standing {
            Standing::Needless(why) => Some(format!("{} is not needed here: {why}", row.name)),
            Standing::Later(why) => Some(format!("{} has no effect yet: {why}", row.name)),
            Standing::Works | Standing::Refused(_) => None,
        };
        rows().filter(told).filter_map(line).collect()
    }

    fn file_at(&mut self, path: &Path, depth: usize) -> Result<(), LoadError> {
        let paths = if is_pattern(path.as_os_str().as_encoded_bytes()) {
            self.files.matching(path)
        } else {
            vec![path.to_owned()]
        };
        for path in paths {
            let opened = self.files.read(&path);
            let text = opened.map_err(|failure| LoadError::Open {
                path: path.clone(),
                reason: os_text(&failure),
            })?;
            self.text_at(&text, &Origin::File(path), depth)?;
        }
        Ok(())
    }

    fn text_at(&mut self, text: &[u8], origin: &Origin, depth: usize) -> Result<(), LoadError> {
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            self.line(line, depth).map_err(|trouble| match trouble {
                Trouble::Inside(error) => error,
                Trouble::Here(reject) => LoadError::Line {
                    origin: origin.clone(),
                    number: index + 1,
                    line: told_line(line),
                    reason: reject.text().into_owned(),
                },
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], depth: usize) -> Result<(), Trouble> {
        let words = split_words(line).ok_or(Reject::Unbalanced)?;
        let Some((name, values)) = words.split_first() else {
            return Ok(());
        };
        match find(name) {
            Some((row, _)) => self.option(row, values),
            None => self.directive(&name.to_ascii_lowercase(), values, depth),
        }
    }

    fn option(&mut self, row: &'static Row, values: &[Vec<u8>]) -> Result<(), Trouble> {
        // One word of an option that takes several may hold them all: `--save "900 1 300 10"`.
        let inner = match values {
            [word] if row.takes_many() && !word.is_empty() => {
                split_words(word).ok_or(Reject::Unbalanced)?
            }
            _ => values.to_vec(),
        };
        let words: Vec<&[u8]> = inner.iter().map(Vec::as_slice).collect();
        let first = self.named.insert(row.name);
        if first && row.name == "save" {
            self.config.save.clear(); // the first line replaces the defaults, later ones add to it
        }
        row.take(&mut self.config, &words, Source::File)?;
        if row.name == "dir" {
            let entered = self.files.enter(Path::new(&self.config.dir));
            let entered = entered.map_err(|failure| Reject::System(os_text(&failure)))?;
            self.config.dir = entered.to_string_lossy().into_owned();
        }
        Ok(())
    }

    fn directive(&mut self, name: &[u8], values: &[Vec<u8>], depth: usize) -> Result<(), Trouble> {
        match (name, values) {
            (b"include", [path]) => return self.include(path, depth),
            (b"user", [user, rules @ ..]) => {
                let (name, rules) = (user.clone(), rules.to_vec());
                self.config.users.push(UserLine { name, rules });
            }
            (b"rename-command", [from, to]) => {
                self.config.renames.push(Rename {
                    from: from.clone(),
                    to: to.clone(),
                });
            }
            (b"loadmodule", [_, ..]) => {
                return Err(Reject::NotHere("modules are not supported: remove this line").into());
            }
            (b"sentinel", _) => {
                return Err(Reject::NotHere("there is no Sentinel mode: remove this line").into());
            }
            (b"gopher-enabled", [flag]) => match parse_flag(flag) {
                Some(false) => {}
                Some(true) => return Err(Reject::NotHere("Gopher is not spoken here").into()),
                None => return Err(Reject::NotFlag.into()),
            },
            (_, [_]) if PASSED_OVER.iter().any(|known| known.as_bytes() == name) => {}
            (_, [_, ..]) if name.contains(&b'.') => {
                return Err(Reject::NotHere("modules are not supported: remove this line").into());
            }
            _ => return Err(Reject::BadDirective.into()),
        }
        Ok(())
    }

    /// A relative path is relative to `dir` as set so far, as if the process had gone there.
    fn include(&mut self, path: &[u8], depth: usize) -> Result<(), Trouble> {
        if depth >= INCLUDE_DEPTH_MAX || self.includes_left == 0 {
            return Err(Reject::Rule("too many includes, or a file that includes itself").into());
        }
        self.includes_left -= 1;
        let dir = Path::new(&self.config.dir);
        let path = if dir.is_absolute() {
            dir.join(parse_text(path)?)
        } else {
            parse_text(path)?.into()
        };
        self.file_at(&path, depth + 1).map_err(Trouble::Inside)
    }
}

/// A line to be shown to whoever started the server: of a secret only the name.
fn told_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let name = text.split_ascii_whitespace().next().unwrap_or_default();
    let secret = find(name.as_bytes()).is_some_and(|(row, _)| row.secret);
    if secret || name.eq_ignore_ascii_case("user") {
        format!("{name} (hidden)")
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::config::several::SavePoint;

    /// Texts by path, instead of a disk.
    #[derive(Default)]
    pub(in crate::config) struct Table(pub(in crate::config) BTreeMap<PathBuf, Vec<u8>>);

    impl Table {
        pub(in crate::config) fn of(files: &[(&str, &str)]) -> Self {
            let entry = |(path, text): &(&str, &str)| (PathBuf::from(path), text.as_bytes().into());
            Self(files.iter().map(entry).collect())
        }
    }

    impl Files for Table {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let path = path
                .strip_prefix("/work")
                .or(path.strip_prefix("."))
                .unwrap_or(path);
            self.0
                .get(path)
                .cloned()
                .ok_or_else(|| io::Error::from_raw_os_error(2))
        }

        fn read_standard_input(&self) -> io::Result<Vec<u8>> {
            self.read(Path::new("-"))
        }

        fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
            let pattern = pattern
                .strip_prefix("/work")
                .unwrap_or(pattern)
                .to_string_lossy();
            let fits = |path: &&PathBuf| {
                super::super::glob::glob_match(
                    pattern.trim_start_matches("./").as_bytes(),
                    path.to_string_lossy().as_bytes(),
                    false,
                )
            };
            self.0.keys().filter(fits).cloned().collect()
        }

        fn enter(&self, folder: &Path) -> io::Result<PathBuf> {
            if folder.ends_with("missing") {
                return Err(io::Error::from_raw_os_error(2));
            }
            Ok(Path::new("/work").join(folder).components().collect())
        }

        fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
            Ok(path.to_owned())
        }

        fn try_append(&self, path: &Path) -> io::Result<()> {
            if path.ends_with("locked.log") {
                Err(io::Error::from_raw_os_error(13))
            } else {
                Ok(())
            }
        }

        fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    fn load(text: &str) -> Result<Loaded, LoadError> {
        let origin = Origin::File("/etc/m.conf".into());
        load_text(text.as_bytes(), &origin, &Table::default())
    }

    fn refusal(text: &str) -> String {
        match load(text).unwrap_err() {
            LoadError::Line { reason, .. } | LoadError::Whole(reason) => reason,
            other @ LoadError::Open { .. } => other.to_string(),
        }
    }

    /// The lines in force of Debian's /etc/redis/redis.conf (7.0.15), but for its choice of logfile.
    const DEBIAN: &str = r#"
bind 127.0.0.1 -::1
protected-mode yes
port 6379
tcp-backlog 511
timeout 0
tcp-keepalive 300
daemonize yes
pidfile /run/redis/redis-server.pid
loglevel notice
logfile /var/log/redis/redis-server.log
databases 16
always-show-logo no
set-proc-title yes
proc-title-template "{title} {listen-addr} {server-mode}"
stop-writes-on-bgsave-error yes
dbfilename dump.rdb
dir /var/lib/redis
replica-serve-stale-data yes
repl-diskless-load disabled
acllog-max-len 128
oom-score-adj no
oom-score-adj-values 0 200 800
appendonly no
appendfilename "appendonly.aof"
auto-aof-rewrite-min-size 64mb

slowlog-log-slower-than 10000
notify-keyspace-events ""
list-max-listpack-size -2
activerehashing yes
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit replica 256mb 64mb 60
client-output-buffer-limit pubsub 32mb 8mb 60
hz 10
jemalloc-bg-thread yes
"#;

    #[test]
    fn debian_s_file_is_taken_as_it_is() {
        let loaded = load(DEBIAN).unwrap();
        assert_eq!(loaded.config.bind, ["127.0.0.1", "-::1"]);
        assert!(loaded.config.daemonize);
        assert_eq!(loaded.config.save, Config::default().save);
        assert_eq!(loaded.notices, Vec::<String>::new());
    }

    #[test]
    fn comments_blanks_quotes_and_case() {
        let loaded = load("# a\n\n  PORT 7000 \r\n\tRequirePass \"a\\x41 b\"\n  # end").unwrap();
        assert_eq!(loaded.config.port, 7000);
        assert_eq!(loaded.config.requirepass.as_bytes(), b"aA b");
        assert_eq!(loaded.config.dir, "/work");
    }

    #[test]
    fn save_lines_replace_the_defaults_and_add_up() {
        let points = |text: &str| load(text).unwrap().config.save;
        let point = |seconds, changes| SavePoint { seconds, changes };
        assert_eq!(
            points("save 900 1\nsave 300 10"),
            [point(900, 1), point(300, 10)]
        );
        assert_eq!(points("save 900 1 300 10"), [point(900, 1), point(300, 10)]);
        assert_eq!(points("save \"900 1\"\n"), [point(900, 1)]);
        assert_eq!(points("save 900 1\nsave \"\""), []);
        assert_eq!(points("save \"\"\nsave 5 1"), [point(5, 1)]);
        assert_eq!(refusal("save 900"), "Invalid save parameters");
        assert_eq!(refusal("save 0 1"), "Invalid save parameters");
    }

    #[test]
    fn refusals_are_worded_as_in_redis() {
        let cases = [
            ("nonsense 1", "Bad directive or wrong number of arguments"),
            ("daemonize maybe", "argument must be 'yes' or 'no'"),
            (
                "port 70000",
                "argument must be between 0 and 65535 inclusive",
            ),
            ("port x", "argument couldn't be parsed into an integer"),
            ("port 1 2", "wrong number of arguments"),
            ("port", "wrong number of arguments"),
            ("maxmemory 1tb", "argument must be a memory value"),
            (
                "maxmemory-clients x",
                "argument must be a memory or percent value",
            ),
            (
                "maxmemory-clients 200%",
                "percentage argument must be less or equal to 100",
            ),
            (
                "unixsocketperm 9",
                "argument couldn't be parsed as an octal number",
            ),
            (
                "unixsocketperm 7777",
                "argument must be between 0 and 777 inclusive",
            ),
            (
                "loglevel loud",
                "argument(s) must be one of the following: debug, verbose, notice, warning, nothing",
            ),
            ("requirepass \"a", "Unbalanced quotes in configuration line"),
            (
                "dbfilename a/b",
                "dbfilename can't be a path, just a filename",
            ),
            ("dir missing", "No such file or directory"),
            (
                "logfile locked.log",
                "Can't open the log file: Permission denied",
            ),
            (
                "shutdown-on-sigint save nosave",
                "shutdown options SAVE and NOSAVE can't be used simultaneously",
            ),
            (
                "proc-title-template {nobody}",
                "template format is invalid or contains unknown variables",
            ),
            (
                "rename-command a",
                "Bad directive or wrong number of arguments",
            ),
            (
                "loadmodule /x.so",
                "modules are not supported: remove this line",
            ),
        ];
        for (line, want) in cases {
            assert_eq!(refusal(line), want, "{line}");
        }
    }

    #[test]
    fn an_error_names_its_line_and_hides_secrets() {
        let error = load("port 1\n\nrequirepass a b").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("*** FATAL CONFIG FILE ERROR"), "{text}");
        assert!(
            text.contains("/etc/m.conf, at line 3\n>>> 'requirepass (hidden)'\nwrong number"),
            "{text}"
        );
    }

    #[test]
    fn includes_are_read_in_place_and_end() {
        let files = Table::of(&[
            ("a.conf", "port 2\ninclude b.conf\n"),
            ("b.conf", "timeout 9\nbad\n"),
            ("conf.d/1.conf", "port 3"),
            ("conf.d/2.conf", "port 4"),
            ("loop.conf", "include loop.conf"),
            ("ok.conf", "include conf.d/*.conf\ninclude none/*.conf"),
        ]);
        let load = |text: &str| load_text(text.as_bytes(), &Origin::StandardInput, &files);
        assert_eq!(load("include ok.conf").unwrap().config.port, 4);
        let inner = load("include a.conf").unwrap_err().to_string();
        assert!(inner.contains("b.conf, at line 2"), "{inner}");
        let missing = load("include none.conf").unwrap_err().to_string();
        assert!(missing.contains("can't open config file") && missing.contains("No such file"));
        let endless = load("include loop.conf").unwrap_err().to_string();
        assert!(endless.contains("includes itself"), "{endless}");
    }

    #[test]
    fn directives_are_kept_for_the_node() {
        let text =
            "user alice on >pw ~* +@all\nrename-command FLUSHALL \"\"\nrename-command CONFIG cfg";
        let config = load(text).unwrap().config;
        assert_eq!(config.users[0].name, b"alice");
        assert_eq!(config.users[0].rules, [&b"on"[..], b">pw", b"~*", b"+@all"]);
        assert!(!format!("{config:?}").contains("pw"));
        assert_eq!(
            config.renames[0],
            Rename {
                from: b"FLUSHALL".into(),
                to: b"".into()
            }
        );
        assert_eq!(config.renames.len(), 2);
    }

    #[test]
    fn options_in_vain_are_told_once() {
        let loaded =
            load("io-threads 4\nlazyfree-lazy-expire no\nbind-source-addr 10.0.0.1\nport 1")
                .unwrap();
        assert_eq!(loaded.notices.len(), 2);
        assert!(
            loaded
                .notices
                .iter()
                .any(|line| line.starts_with("io-threads is not needed"))
        );
        assert!(
            loaded
                .notices
                .iter()
                .any(|line| line.starts_with("bind-source-addr has no effect yet"))
        );
    }

    #[test]
    fn a_cluster_has_one_database_and_hz_is_bounded() {
        let config = load("cluster-enabled yes\nhz 9999").unwrap().config;
        assert_eq!((config.databases, config.hz), (1, 500));
        assert_eq!(load("hz 0").unwrap().config.hz, 1);
    }

    #[test]
    fn options_of_other_releases_are_passed_over() {
        load("list-max-ziplist-entries 512\nlua-replicate-commands yes\ngopher-enabled no\nhide-user-data-from-log yes\nslave-read-only yes\nhash-max-ziplist-entries 3\nlua-time-limit 3").unwrap();
        assert_eq!(refusal("gopher-enabled yes"), "Gopher is not spoken here");
        assert_eq!(
            refusal("lua-replicate-commands"),
            "Bad directive or wrong number of arguments"
        );
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let mut state = 7u64;
        let names: Vec<&str> = rows().map(|row| row.name).collect();
        for round in 0..4000usize {
            let mut line = names[round % names.len()].as_bytes().to_vec();
            line.push(b' ');
            for _ in 0..round % 23 {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let bytes = b"0-9\"'\\x \0\xff%kgb.\t*{}yesno99999999999999";
                line.push(bytes[(state >> 33) as usize % bytes.len()]);
            }
            drop(load_text(&line, &Origin::CommandLine, &Table::default()));
        }
    }
}
