//! Options that are one word out of a few: the words, and the types they become.

/// A type whose values are words of the configuration.
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// Word and value, in the order in which Redis lists them; a value's first word is how it is printed.
    const WORDS: &'static [(&'static str, Self)];
    /// The words alone, as the refusal of an unknown word lists them.
    const NAMES: &'static [&'static str];

    /// The value a word stands for; case does not matter.
    fn of_word(word: &str) -> Option<Self> {
        let mut all = Self::WORDS.iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|&(_, value)| value)
    }

    /// The word printed for this value.
    fn word(self) -> &'static str {
        let mut all = Self::WORDS.iter();
        all.find(|&&(_, value)| value == self)
            .map_or("unknown", |&(name, _)| name)
    }
}

/// Declares the enum, and its words once; the first word's value is the blank one.
macro_rules! choices {
    (
        $(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident,)+ }
        words { $first_word:literal => $first:ident, $($word:literal => $value:ident,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[$doc])* $variant,)+ }

        impl Default for $kind {
            fn default() -> Self {
                Self::$first
            }
        }

        impl Choice for $kind {
            const WORDS: &'static [(&'static str, Self)] =
                &[($first_word, Self::$first), $(($word, Self::$value)),*];
            const NAMES: &'static [&'static str] = &[$first_word, $($word),*];
        }
    };
}

choices! {
    /// What to evict when memory is needed.
    MaxmemoryPolicy {
        /// Least recently used, among keys with a deadline.
        VolatileLru,
        /// Least frequently used, among keys with a deadline.
        VolatileLfu,
        /// Any key with a deadline.
        VolatileRandom,
        /// The nearest deadline first.
        VolatileTtl,
        /// Least recently used of all keys.
        AllkeysLru,
        /// Least frequently used of all keys.
        AllkeysLfu,
        /// Any key.
        AllkeysRandom,
        /// As S3-FIFO chooses, among all keys; not a policy of Redis.
        AllkeysS3Fifo,
        /// Nothing: writes that need memory are refused.
        NoEviction,
    }
    words {
        "volatile-lru" => VolatileLru,
        "volatile-lfu" => VolatileLfu,
        "volatile-random" => VolatileRandom,
        "volatile-ttl" => VolatileTtl,
        "allkeys-lru" => AllkeysLru,
        "allkeys-lfu" => AllkeysLfu,
        "allkeys-random" => AllkeysRandom,
        "allkeys-s3fifo" => AllkeysS3Fifo,
        "noeviction" => NoEviction,
    }
}

choices! {
    /// How much is logged; each level holds those below it in this list.
    LogLevel {
        /// Everything, for work on the server itself.
        Debug,
        /// Much that is rarely useful.
        Verbose,
        /// What an operator wants to see.
        Notice,
        /// Only what is important or wrong.
        Warning,
        /// No line at all.
        Nothing,
    }
    words {
        "debug" => Debug,
        "verbose" => Verbose,
        "notice" => Notice,
        "warning" => Warning,
        "nothing" => Nothing,
    }
}

choices! {
    /// When the log is forced to the disk.
    AppendFsync {
        /// Once a second.
        EverySecond,
        /// Before the reply leaves.
        Always,
        /// When the kernel likes.
        No,
    }
    words { "everysec" => EverySecond, "always" => Always, "no" => No, }
}

choices! {
    /// How a full copy of a source is taken in.
    DisklessLoad {
        /// Its file is received and read through first.
        Disabled,
        /// As it arrives, where nothing is here that it could cost.
        OnEmptyDb,
        /// As `disabled`: what is here stays until the file is there, as Redis promises of it.
        Swapdb,
    }
    words { "disabled" => Disabled, "on-empty-db" => OnEmptyDb, "swapdb" => Swapdb, }
}

choices! {
    /// Who supervises the process and is told that it is ready.
    Supervised {
        /// Upstart: the process stops itself once.
        Upstart,
        /// systemd: a message to `$NOTIFY_SOCKET`.
        Systemd,
        /// Whichever of the two the environment speaks of.
        Auto,
        /// Nobody.
        No,
    }
    words { "upstart" => Upstart, "systemd" => Systemd, "auto" => Auto, "no" => No, }
}

choices! {
    /// From whom a guarded action (DEBUG, protected options) is taken.
    ProtectedAction {
        /// From nobody.
        No,
        /// From everybody.
        Yes,
        /// From connections of this machine.
        Local,
    }
    words { "no" => No, "yes" => Yes, "local" => Local, }
}

impl ProtectedAction {
    /// Whether a connection may do it; `local` says that it comes from this machine.
    pub fn allows(self, local: bool) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => local,
        }
    }
}

choices! {
    /// Channels a new user may use before any rule speaks of them.
    PubsubDefault {
        /// Every channel.
        AllChannels,
        /// None.
        ResetChannels,
    }
    words { "allchannels" => AllChannels, "resetchannels" => ResetChannels, }
}

choices! {
    /// Whether a client of TLS must show a certificate.
    TlsClients {
        /// It is not asked for one.
        No,
        /// It must.
        Yes,
        /// It may; one that it shows must be good.
        Optional,
    }
    words { "no" => No, "yes" => Yes, "optional" => Optional, }
}

choices! {
    /// What a cluster client is told to connect to.
    EndpointType {
        /// The address.
        Ip,
        /// The announced host name.
        Hostname,
        /// Nothing: the client keeps the host it knows.
        UnknownEndpoint,
    }
    words { "ip" => Ip, "hostname" => Hostname, "unknown-endpoint" => UnknownEndpoint, }
}

choices! {
    /// How the kernel's out-of-memory score is set.
    OomScoreAdj {
        /// Left alone.
        No,
        /// Added to the score the process started with.
        Relative,
        /// Taken as it is.
        Absolute,
    }
    words { "no" => No, "yes" => Relative, "relative" => Relative, "absolute" => Absolute, }
}

choices! {
    /// Which driver moves the bytes.
    Io {
        /// io_uring where the kernel lets us, else epoll.
        Auto,
        /// io_uring, or no start.
        Uring,
        /// epoll.
        Epoll,
    }
    words { "auto" => Auto, "uring" => Uring, "epoll" => Epoll, }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_case_does_not_matter() {
        assert_eq!(LogLevel::of_word("NOTICE"), Some(LogLevel::Notice));
        assert_eq!(LogLevel::of_word("loud"), None);
        assert_eq!(OomScoreAdj::Relative.word(), "yes");
        for &(_, value) in MaxmemoryPolicy::WORDS {
            assert_eq!(MaxmemoryPolicy::of_word(value.word()), Some(value));
        }
    }

    #[test]
    fn local_is_allowed_only_here() {
        assert!(ProtectedAction::Local.allows(true));
        assert!(!ProtectedAction::Local.allows(false));
        assert!(ProtectedAction::Yes.allows(false));
        assert!(!ProtectedAction::No.allows(true));
    }
}
