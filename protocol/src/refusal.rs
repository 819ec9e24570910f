//! `Refusal`: every error text that clients of Redis match on, each written once, exactly as
//! Redis 7.2 writes it.
//!
//! A text that only one command family uses may stay there, as `Refusal::Text`. Texts begin with
//! their code (`ERR`, `WRONGTYPE`...); the `-` and the line end belong to the reply.

use crate::args::Args;
use crate::parse::ProtocolError;

/// At most this many bytes of a name, and of the arguments together, are quoted back to a client.
const QUOTED_BYTES_MAX: usize = 128;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        /// The client's mistake (or our state) that is replied instead of an answer.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])* #[doc = concat!("`", $text, "`")] $name,)+
            /// The wrong number of arguments for the named command.
            Arity(Box<str>),
            /// An expire time that is not positive or too large, for the named command.
            ExpireTime(&'static str),
            /// A command that does not exist; holds the whole text, see `unknown_command`.
            UnknownCommand(Box<[u8]>),
            /// A subcommand that does not exist; holds the whole text, see `unknown_subcommand`.
            UnknownSubcommand(Box<[u8]>),
            /// Not RESP; the connection is closed after the reply.
            Protocol(ProtocolError),
            /// A text of one command family, whole with its code.
            Text(&'static str),
            /// A text made at run time, whole with its code.
            Owned(Box<str>),
            /// As `Owned`, with a client's bytes in it.
            Quoted(Box<[u8]>),
        }

        impl Refusal {
            /// The text of the refusals that always say the same.
            const fn fixed(&self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)+
                    Self::Text(text) => Some(text),
                    _ => None,
                }
            }

            /// All refusals with a fixed text, for tests.
            #[cfg(test)]
            const ALL_FIXED: &[Refusal] = &[$(Refusal::$name),+];
        }
    };
}

refusals! {
    // Values and arguments.
    WrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";
    Syntax = "ERR syntax error";
    NotInteger = "ERR value is not an integer or out of range";
    NotFloat = "ERR value is not a valid float";
    /// A 64-bit integer that does not fit the narrower type meant.
    ValueOutOfRange = "ERR value is out of range";
    NotPositive = "ERR value is out of range, must be positive";
    NoSuchKey = "ERR no such key";
    OutOfRange = "ERR index out of range";
    SameObject = "ERR source and destination objects are the same";
    BusyKey = "BUSYKEY Target key name already exists.";
    DbOutOfRange = "ERR DB index is out of range";
    InvalidFirstDbIndex = "ERR invalid first DB index";
    InvalidSecondDbIndex = "ERR invalid second DB index";
    InvalidCursor = "ERR invalid cursor";
    NumkeysNotPositive = "ERR numkeys should be greater than 0";
    CountNotPositive = "ERR count should be greater than 0";
    LimitNegative = "ERR LIMIT can't be negative";
    TooManyKeys = "ERR Number of keys can't be greater than number of args";
    NegativeKeys = "ERR Number of keys can't be negative";
    // Strings.
    IncrOverflow = "ERR increment or decrement would overflow";
    DecrOverflow = "ERR decrement would overflow";
    IncrNotFinite = "ERR increment would produce NaN or Infinity";
    OffsetOutOfRange = "ERR offset is out of range";
    StringTooLong = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    LcsNotStrings = "ERR The specified keys must contain string values";
    LcsLenAndIdx = "ERR If you want both the length and indexes, please just use IDX.";
    LcsTooLong = "ERR String too long for LCS";
    LcsNoMemory = "ERR Insufficient memory, failed allocating transient memory for LCS";
    // Expiry.
    ExpireGtLt = "ERR GT and LT options at the same time are not compatible";
    ExpireNx = "ERR NX and XX, GT or LT options at the same time are not compatible";
    InvalidTtl = "ERR Invalid TTL value, must be >= 0";
    InvalidIdletime = "ERR Invalid IDLETIME value, must be >= 0";
    InvalidFreq = "ERR Invalid FREQ value, must be >= 0 and <= 255";
    // Keys.
    LfuSelected = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    LfuNotSelected = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    SortNotDouble = "ERR One or more scores can't be converted into double";
    SortByCluster = "ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.";
    SortGetCluster = "ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.";
    SortByAcl = "ERR BY option of SORT denied due to insufficient ACL permissions.";
    SortGetAcl = "ERR GET option of SORT denied due to insufficient ACL permissions.";
    BadPayload = "ERR DUMP payload version or checksum are wrong";
    BadDataFormat = "ERR Bad data format";
    // Bitmaps.
    BitOffset = "ERR bit offset is not an integer or out of range";
    BitValue = "ERR bit is not an integer or out of range";
    BitArgument = "ERR The bit argument must be 1 or 0.";
    BitopNotOne = "ERR BITOP NOT must be called with a single source key.";
    BitfieldType = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    BitfieldOverflow = "ERR Invalid OVERFLOW type specified";
    BitfieldReadonly = "ERR BITFIELD_RO only supports the GET subcommand";
    // Hashes.
    HashNotInteger = "ERR hash value is not an integer";
    HashNotFloat = "ERR hash value is not a float";
    NotFinite = "ERR value is NaN or Infinity";
    // Sorted sets.
    MinMaxNotFloat = "ERR min or max is not a float";
    MinMaxNotString = "ERR min or max not valid string range item";
    ScoreNan = "ERR resulting score is not a number (NaN)";
    WeightNotFloat = "ERR weight value is not a float";
    ZaddXxNx = "ERR XX and NX options at the same time are not compatible";
    ZaddGtLtNx = "ERR GT, LT, and/or NX options at the same time are not compatible";
    ZaddIncrPairs = "ERR INCR option supports a single increment-element pair";
    ZrangeLimit = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
    ZrangeWithscores = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";
    // Lists.
    LposRankZero = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list";
    LposRankRange = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    LposCountNegative = "ERR COUNT can't be negative";
    LposMaxlenNegative = "ERR MAXLEN can't be negative";
    // Waiting.
    TimeoutNotFloat = "ERR timeout is not a float or out of range";
    TimeoutNotInteger = "ERR timeout is not an integer or out of range";
    TimeoutOutOfRange = "ERR timeout is out of range";
    TimeoutNegative = "ERR timeout is negative";
    Unblocked = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
    UnblockedReplica = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
    // Connections.
    NoAuth = "NOAUTH Authentication required.";
    NoAuthHello = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
    WrongPass = "WRONGPASS invalid username-password pair or user is disabled.";
    AuthNoPassword = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
    NoProto = "NOPROTO unsupported protocol version";
    ProtoNotInteger = "ERR Protocol version is not an integer or out of range";
    NoSuchClient = "ERR No such client";
    /// A monitor asks for data.
    MonitorKeyspace = "ERR Replica can't interact with the keyspace";
    NoSuchUserToKill = "ERR No such user";
    InvalidClientId = "ERR Invalid client ID";
    ClientUnblockReason = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
    ClientPauseMode = "ERR CLIENT PAUSE mode must be WRITE or ALL";
    ResetNormalOnly = "ERR can only reset normal client connections";
    MaxClients = "ERR max number of clients reached";
    ProtectedMode = "DENIED Protected mode is on and the default user has no password, so only local connections are accepted. Set a password, turn protected-mode off, or connect from this host.";
    // Permissions.
    NoPermKey = "NOPERM No permissions to access a key";
    NoPermChannel = "NOPERM No permissions to access a channel";
    // Transactions.
    NestedMulti = "ERR MULTI calls can not be nested";
    ExecWithoutMulti = "ERR EXEC without MULTI";
    DiscardWithoutMulti = "ERR DISCARD without MULTI";
    WatchInMulti = "ERR WATCH inside MULTI is not allowed";
    NotInMulti = "ERR Command not allowed inside a transaction";
    ExecAbort = "EXECABORT Transaction discarded because of previous errors.";
    // State of the server.
    Oom = "OOM command not allowed when used memory > 'maxmemory'.";
    Loading = "LOADING Redis is loading the dataset in memory";
    MisconfRdb = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
    Readonly = "READONLY You can't write against a read only replica.";
    MasterDown = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    NoReplicas = "NOREPLICAS Not enough good replicas to write.";
    BusyScript = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    BusyFunction = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
    BackgroundSave = "ERR Background save already in progress";
    BackgroundRewrite = "ERR Background append only file rewriting already in progress";
    NoConfigFile = "ERR The server is running without a config file";
    ShutdownErrors = "ERR Errors trying to SHUTDOWN. Check logs.";
    NoShutdown = "ERR No shutdown in progress.";
    // COMMAND.
    NoKeyArguments = "ERR The command has no key arguments";
    InvalidKeyArguments = "ERR Invalid arguments specified for command";
    InvalidCommand = "ERR Invalid command specified";
    InvalidCommandArity = "ERR Invalid number of arguments specified for command";
    // Scripts.
    NoScript = "NOSCRIPT No matching script. Please use EVAL.";
    ScriptNotBusy = "NOTBUSY No scripts in execution right now.";
    ScriptUnkillable = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.";
    ScriptFlushMode = "ERR SCRIPT FLUSH only support SYNC|ASYNC option";
    // Cluster.
    CrossSlot = "CROSSSLOT Keys in request don't hash to the same slot";
    TryAgain = "TRYAGAIN Multiple keys request during rehashing of slot";
    ClusterDown = "CLUSTERDOWN The cluster is down";
    ClusterDownReadonly = "CLUSTERDOWN The cluster is down and only accepts read commands";
    ClusterDownUnbound = "CLUSTERDOWN Hash slot not served";
    ClusterDisabled = "ERR This instance has cluster support disabled";
    ClusterSelect = "ERR SELECT is not allowed in cluster mode";
    ClusterMove = "ERR MOVE is not allowed in cluster mode";
    ClusterSwapdb = "ERR SWAPDB is not allowed in cluster mode";
    ClusterCopyDb = "ERR Copying to another database is not allowed in cluster mode";
    ClusterInvalidSlot = "ERR Invalid or out of range slot";
    ClusterInvalidSlotOrCount = "ERR Invalid slot or number of keys";
}

const _: () = assert!(size_of::<Refusal>() <= 24);
const _: () = assert!(size_of::<Result<(), Refusal>>() <= 24);

impl Refusal {
    /// The wrong number of arguments for `name` (lower case; a subcommand is `config|get`).
    pub fn arity(name: &str) -> Self {
        Self::Arity(name.into())
    }

    /// A command that does not exist. Quotes its name and the beginning of its arguments.
    pub fn unknown_command(args: &Args<'_>) -> Self {
        let name = args.word(0).unwrap_or_default();
        let mut text = Vec::with_capacity(64);
        text.extend_from_slice(b"ERR unknown command '");
        text.extend_from_slice(quoted(name, QUOTED_BYTES_MAX));
        text.extend_from_slice(b"', with args beginning with: ");
        let begin = text.len();
        for index in 1..args.total() {
            // The limit counts quotes and blanks, and is looked at before each argument.
            let used = text.len() - begin;
            if used >= QUOTED_BYTES_MAX {
                break;
            }
            text.push(b'\'');
            text.extend_from_slice(quoted(
                args.word(index).unwrap_or_default(),
                QUOTED_BYTES_MAX - used,
            ));
            text.extend_from_slice(b"' ");
        }
        Self::UnknownCommand(text.into())
    }

    /// A subcommand of word 0 that does not exist.
    pub fn unknown_subcommand(args: &Args<'_>) -> Self {
        Self::subcommand(args, "ERR unknown subcommand '")
    }

    /// A subcommand that a handler itself does not know in this form (OBJECT, MEMORY, DEBUG...).
    pub fn subcommand_syntax(args: &Args<'_>) -> Self {
        Self::subcommand(
            args,
            "ERR unknown subcommand or wrong number of arguments for '",
        )
    }

    /// A connection that listens to channels in version 2 has sent another command.
    pub fn only_listens(name: &str) -> Self {
        Self::Owned(
            format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
                 are allowed in this context"
            )
            .into(),
        )
    }

    fn subcommand(args: &Args<'_>, before: &str) -> Self {
        let mut text = Vec::with_capacity(64);
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(quoted(args.word(1).unwrap_or_default(), QUOTED_BYTES_MAX));
        text.extend_from_slice(b"'. Try ");
        let name = args.word(0).unwrap_or_default();
        text.extend(quoted(name, usize::MAX).iter().map(u8::to_ascii_uppercase));
        text.extend_from_slice(b" HELP.");
        Self::UnknownSubcommand(text.into())
    }

    /// Only these commands are allowed to a RESP2 client that has subscribed; `name` is not one.
    pub fn subscribed(name: &str) -> Self {
        Self::Owned(
            format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            )
            .into(),
        )
    }

    /// The user may not run the command.
    pub fn no_permission(user: &str, command: &str) -> Self {
        let text = format!("NOPERM User {user} has no permissions to run the '{command}' command");
        Self::Owned(text.into())
    }

    /// EXEC itself was refused, for `cause`.
    pub fn exec_abort(cause: &Self) -> Self {
        let mut text = Vec::new();
        cause.write(&mut text);
        let text = String::from_utf8_lossy(&text);
        // Redis leaves out the code of texts that it has made for this request.
        let text = match cause {
            Self::Arity(_) | Self::Owned(_) => text.trim_start_matches("ERR "),
            _ => &text,
        };
        Self::Owned(format!("EXECABORT Transaction discarded because of: {text}").into())
    }

    /// The slot is served elsewhere for good; `endpoint` is `host:port`.
    pub fn moved(slot: u16, endpoint: &str) -> Self {
        Self::Owned(format!("MOVED {slot} {endpoint}").into())
    }

    /// The key may already be elsewhere; `endpoint` is `host:port`.
    pub fn ask(slot: u16, endpoint: &str) -> Self {
        Self::Owned(format!("ASK {slot} {endpoint}").into())
    }

    /// Integer outside of a stated range.
    pub fn out_of_range(min: i64, max: i64) -> Self {
        let text = format!("ERR value is out of range, value must between {min} and {max}");
        Self::Owned(text.into())
    }

    /// DEBUG or MODULE (`command`, upper case) without leave of the configuration option named.
    pub fn protected(command: &str, option: &str) -> Self {
        Self::Owned(
            format!(
                "ERR {command} command not allowed. If the {option} option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server."
            )
            .into(),
        )
    }

    /// Appends the text with its code; without `-` and line end. Line breaks become blanks.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Arity(name) => {
                let parts = ["ERR wrong number of arguments for '", name, "' command"];
                parts
                    .iter()
                    .for_each(|part| write_line(part.as_bytes(), out));
            }
            Self::ExpireTime(name) => {
                let parts = ["ERR invalid expire time in '", name, "' command"];
                parts
                    .iter()
                    .for_each(|part| write_line(part.as_bytes(), out));
            }
            Self::UnknownCommand(text) | Self::UnknownSubcommand(text) | Self::Quoted(text) => {
                write_line(text, out);
            }
            Self::Protocol(error) => error.write(out),
            Self::Owned(text) => write_line(text.as_bytes(), out),
            // A fixed text has no line breaks (a test sees to it), but a family's might.
            fixed => write_line(fixed.fixed().unwrap_or("ERR").as_bytes(), out),
        }
    }

    /// The first word of the text: "ERR", "WRONGTYPE"...
    pub fn code(&self) -> &str {
        let text = match self {
            Self::Owned(text) => text,
            Self::Quoted(text) => {
                let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
                return str::from_utf8(code).unwrap_or("ERR");
            }
            other => other.fixed().unwrap_or("ERR"),
        };
        text.split(' ').next().unwrap_or("ERR")
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::error::Error for Refusal {}

/// The beginning of a client's word that may be quoted: Redis prints it as a C string.
fn quoted(word: &[u8], bytes_max: usize) -> &[u8] {
    let end = memchr::memchr(0, word).unwrap_or(word.len()).min(bytes_max);
    word.get(..end).unwrap_or(word)
}

/// Appends `text` with line breaks replaced, since a reply's line ends at the first one.
fn write_line(text: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr2(b'\r', b'\n', text).is_none() {
        out.extend_from_slice(text);
    } else {
        out.extend(
            text.iter()
                .map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;
    use crate::args::{Args, flatten};

    fn with_args<R>(words: &[&[u8]], f: impl FnOnce(Args<'_>) -> R) -> R {
        let (mut buf, mut found) = (Vec::new(), Vec::new());
        let owned: Vec<Vec<u8>> = words.iter().map(|w| w.to_vec()).collect();
        flatten(&owned, &mut buf, &mut found);
        f(Args::new(&buf, &found))
    }

    #[test]
    fn fixed_texts_are_lines_with_a_code() {
        for refusal in Refusal::ALL_FIXED {
            let text = refusal.to_string();
            let code = refusal.code();
            assert!(
                text.starts_with(code) && text.len() > code.len() + 1,
                "{text}"
            );
            assert!(code.bytes().all(|b| b.is_ascii_uppercase()), "{text}");
            assert!(
                !text.contains(['\r', '\n']) && !text.ends_with(' '),
                "{text}"
            );
        }
    }

    #[test]
    fn each_text_once() {
        let mut texts: Vec<_> = Refusal::ALL_FIXED.iter().map(ToString::to_string).collect();
        texts.sort();
        assert!(texts.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn made_texts() {
        let table = [
            (
                Refusal::arity("config|get"),
                "ERR wrong number of arguments for 'config|get' command",
            ),
            (
                Refusal::ExpireTime("set"),
                "ERR invalid expire time in 'set' command",
            ),
            (Refusal::moved(7, "h:1"), "MOVED 7 h:1"),
            (Refusal::ask(7, "h:1"), "ASK 7 h:1"),
            (
                Refusal::exec_abort(&Refusal::Oom),
                "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
            ),
            (Refusal::Text("X a\r\nb"), "X a  b"),
            (Refusal::Owned("ERR a\nb".into()), "ERR a b"),
            (Refusal::Quoted(b"NOGROUP a\nb"[..].into()), "NOGROUP a b"),
            (
                Refusal::out_of_range(0, 5),
                "ERR value is out of range, value must between 0 and 5",
            ),
            (
                Refusal::no_permission("bob", "get"),
                "NOPERM User bob has no permissions to run the 'get' command",
            ),
        ];
        for (refusal, text) in table {
            assert_eq!(refusal.to_string(), text);
            assert_eq!(refusal.code(), text.split(' ').next().unwrap());
        }
    }

    #[test]
    fn unknown_commands_quote_what_was_sent() {
        let long = [b'x'; 200];
        let text =
            |words: &[&[u8]]| with_args(words, |args| Refusal::unknown_command(&args).to_string());
        assert_eq!(
            text(&[b"foo"]),
            "ERR unknown command 'foo', with args beginning with: "
        );
        assert_eq!(
            text(&[b"foo", b"a\r\nb", b"c\0d"]),
            "ERR unknown command 'foo', with args beginning with: 'a  b' 'c' "
        );
        let x128 = "x".repeat(128);
        assert_eq!(
            text(&[&long, &long, b"never shown"]),
            format!("ERR unknown command '{x128}', with args beginning with: '{x128}' ")
        );
        // 'a' and its blank are 4 bytes; 124 are left for the next, and then none.
        assert_eq!(
            text(&[b"foo", b"a", &long, b"never shown"]),
            format!(
                "ERR unknown command 'foo', with args beginning with: 'a' '{}' ",
                "x".repeat(124)
            )
        );
    }

    #[test]
    fn unknown_subcommands() {
        with_args(&[b"config", b"nope"], |args| {
            assert_eq!(
                Refusal::unknown_subcommand(&args).to_string(),
                "ERR unknown subcommand 'nope'. Try CONFIG HELP."
            );
            assert_eq!(
                Refusal::subcommand_syntax(&args).to_string(),
                "ERR unknown subcommand or wrong number of arguments for 'nope'. Try CONFIG HELP."
            );
        });
    }
}
