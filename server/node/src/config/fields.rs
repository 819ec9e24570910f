//! The configuration as typed fields: what the rest of the server reads.

use std::collections::BTreeMap;

use super::choices::{
    AppendFsync, DisklessLoad, EndpointType, Io, LogLevel, MaxmemoryPolicy, OomScoreAdj,
    ProtectedAction, PubsubDefault, Supervised, TlsClients,
};
use super::rows::rows;
use super::several::{
    KeyspaceEvents, OutputLimits, Primary, Rename, SavePoint, ShutdownFlags, UserLine,
};
use super::value::{Secret, Value};

/// Declares the struct, and with it the blank that the rows' defaults are taken into.
macro_rules! fields {
    (
        $(#[$about:meta])* pub struct $config:ident {
            $($(#[$doc:meta])* pub $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $config {
            $($(#[$doc])* pub $field: $kind,)*
            /// Values of options that nothing reads yet, by the row's name; absent is the default.
            pub(super) kept: BTreeMap<&'static str, Value>,
        }

        impl $config {
            /// All zeros, before any default: of use to `default` alone.
            pub(super) fn blank() -> Self {
                Self { $($field: Default::default(),)* kept: BTreeMap::new() }
            }
        }
    };
}

impl Default for Config {
    /// Every row's default.
    fn default() -> Self {
        let mut config = Self::blank();
        rows().for_each(|row| row.take_default(&mut config));
        config
    }
}

fields! {
    /// Every option that the server reads, by field; the options' rows say what each may hold.
    pub struct Config {
        // Network.
        /// `bind`: addresses to listen on; a leading `-` forgives an address that is not there.
        pub bind: Vec<String>,
        /// `port`: TCP port; 0 = none.
        pub port: u16,
        /// `tls-port`: TLS port; 0 = none.
        pub tls_port: u16,
        /// `unixsocket`: path; empty = none.
        pub unixsocket: String,
        /// `unixsocketperm`: file mode of the socket; 0 = as the umask has it.
        pub unixsocketperm: u32,
        /// `tcp-backlog`: connections that may wait to be accepted.
        pub tcp_backlog: u32,
        /// `tcp-keepalive`: seconds between probes of a silent connection; 0 = off.
        pub tcp_keepalive_s: u32,
        /// `timeout`: seconds after which an idle client is closed; 0 = never.
        pub timeout_s: u32,
        /// `maxclients`: connections at once.
        pub maxclients: u32,
        /// `protected-mode`: without a password, only this machine may connect.
        pub protected_mode: bool,
        /// `proto-max-bulk-len`: bytes of the longest word of a request.
        pub proto_max_bulk_len: u64,
        /// `client-query-buffer-limit`: bytes of a client's unread request.
        pub client_query_buffer_limit: u64,
        /// `client-output-buffer-limit`: when a client that does not read is closed.
        pub client_output_buffer_limit: OutputLimits,
        /// `tracking-table-max-keys`: keys remembered for client-side caching; 0 = no limit.
        pub tracking_table_max_keys: u64,

        // TLS.
        /// `tls-cert-file`: the server's certificate, then those that signed it; empty = none.
        pub tls_cert_file: String,
        /// `tls-key-file`: its private key; empty = none.
        pub tls_key_file: String,
        /// `tls-key-file-pass`: the pass phrase of that key; empty = it has none.
        pub tls_key_file_pass: Secret,
        /// `tls-ca-cert-file`: authorities of clients' certificates; empty = none.
        pub tls_ca_cert_file: String,
        /// `tls-client-cert-file`: certificate shown when the server is itself a client; empty = that of the server.
        pub tls_client_cert_file: String,
        /// `tls-client-key-file`: its private key.
        pub tls_client_key_file: String,
        /// `tls-client-key-file-pass`: pass phrase of that key.
        pub tls_client_key_file_pass: Secret,
        /// `tls-cluster`: MIGRATE speaks TLS.
        pub tls_cluster: bool,
        /// `tls-replication`: the link to the primary speaks TLS.
        pub tls_replication: bool,
        /// `tls-ca-cert-dir`: a folder of such files; empty = none.
        pub tls_ca_cert_dir: String,
        /// `tls-auth-clients`: whether clients must show a certificate.
        pub tls_auth_clients: TlsClients,
        /// `tls-protocols`: versions; empty = 1.2 and 1.3.
        pub tls_protocols: String,
        /// `tls-ciphers`: suites of TLS 1.2 as OpenSSL calls them; empty = all.
        pub tls_ciphers: String,
        /// `tls-ciphersuites`: suites of TLS 1.3; empty = all.
        pub tls_ciphersuites: String,
        /// `tls-prefer-server-ciphers`: our order of suites counts.
        pub tls_prefer_server_ciphers: bool,
        /// `tls-session-caching`: clients that return shake hands faster.
        pub tls_session_caching: bool,
        /// `tls-session-cache-size`: sessions remembered; 0 = no limit.
        pub tls_session_cache_size: u64,
        /// `tls-session-cache-timeout`: seconds for which each is.
        pub tls_session_cache_timeout_s: u64,

        // Cores and control plane.
        /// `cores`: threads that serve data; 0 = one for each core of the machine.
        pub cores: u32,
        /// `io`: the driver.
        pub io: Io,
        /// `admin-port`: port of the admin HTTP server; 0 = none.
        pub admin_port: u16,
        /// `admin-bind`: addresses of the admin HTTP server.
        pub admin_bind: Vec<String>,
        /// `core-port-base`: first of the cores' own ports; 0 = `port` + 1.
        pub core_port_base: u16,
        /// `core-tls-port-base`: first of the cores' own ports of TLS; 0 = `tls-port` + 1.
        pub core_tls_port_base: u16,
        /// `aside-min-steps`: from where on a request runs beside its core; 0 = never.
        pub aside_min_steps: u32,
        /// `turn-cpu-clock`: measure each turn's processor time.
        pub turn_cpu_clock: bool,

        // Access.
        /// `requirepass`: password of the default user; empty = none.
        pub requirepass: Secret,
        /// `aclfile`: path of the users' file; empty = none.
        pub aclfile: String,
        /// `acl-pubsub-default`: channels of a new user.
        pub acl_pubsub_default: PubsubDefault,
        /// `acllog-max-len`: entries of ACL LOG.
        pub acllog_max_len: u64,
        /// `user` lines in order; what ACL SETUSER changed must be put here before CONFIG REWRITE.
        pub users: Vec<UserLine>,
        /// `rename-command` lines in order.
        pub renames: Vec<Rename>,
        /// `enable-protected-configs`: who may change protected options.
        pub enable_protected_configs: ProtectedAction,
        /// `enable-debug-command`: who may use DEBUG.
        pub enable_debug_command: ProtectedAction,

        // Memory.
        /// `maxmemory`: bytes of the whole node; 0 = no limit.
        pub maxmemory: u64,
        /// `maxmemory-clients`: bytes of all connections; below 0: so many percent of `maxmemory`; 0 = no limit.
        pub maxmemory_clients: i64,
        /// `maxmemory-policy`: what to evict.
        pub maxmemory_policy: MaxmemoryPolicy,
        /// `maxmemory-samples`: candidates looked at for an eviction.
        pub maxmemory_samples: u32,
        /// `maxmemory-eviction-tenacity`: 0 = least delay of clients, 100 = evict at any delay.
        pub maxmemory_eviction_tenacity: u32,
        /// `activedefrag`: keys are moved out of sparsely used pages.
        pub activedefrag: bool,
        /// `active-defrag-ignore-bytes`: waste below which they are not.
        pub active_defrag_ignore_bytes: u64,
        /// `active-defrag-threshold-lower`: nor below so many percent of what is used.
        pub active_defrag_threshold_lower: u32,
        /// `active-defrag-threshold-upper`: percent at which all effort is made.
        pub active_defrag_threshold_upper: u32,
        /// `active-defrag-cycle-min`: percent of a core's time at the lower threshold...
        pub active_defrag_cycle_min: u32,
        /// `active-defrag-cycle-max`: ...and at the upper one.
        pub active_defrag_cycle_max: u32,
        /// `lfu-log-factor`: how slowly the access counter grows.
        pub lfu_log_factor: u32,
        /// `lfu-decay-time`: minutes after which the access counter falls by one.
        pub lfu_decay_time_min: u32,

        // Compact forms (the names of `storage::Limits`).
        /// `hash-max-listpack-entries`: fields.
        pub hash_max_listpack_entries: usize,
        /// `hash-max-listpack-value`: bytes of a field or value.
        pub hash_max_listpack_value_bytes: usize,
        /// `list-max-listpack-size`: elements of a chunk, or -1 to -5 for 4 to 64 KiB.
        pub list_max_listpack_size: i32,
        /// `list-compress-depth`: kept; chunks are never compressed.
        pub list_compress_depth: u32,
        /// `set-max-intset-entries`: members of a set of integers.
        pub set_max_intset_entries: usize,
        /// `set-max-listpack-entries`: members.
        pub set_max_listpack_entries: usize,
        /// `set-max-listpack-value`: bytes of a member.
        pub set_max_listpack_value_bytes: usize,
        /// `zset-max-listpack-entries`: members.
        pub zset_max_listpack_entries: usize,
        /// `zset-max-listpack-value`: bytes of a member.
        pub zset_max_listpack_value_bytes: usize,
        /// `hll-sparse-max-bytes`: bytes of a sparse HyperLogLog.
        pub hll_sparse_max_bytes: usize,
        /// `stream-node-max-bytes`: bytes of one node of a stream; 0 = no limit.
        pub stream_node_max_bytes: usize,
        /// `stream-node-max-entries`: entries of one node of a stream; 0 = no limit.
        pub stream_node_max_entries: u64,

        // Disk.
        /// `dir`: the folder of data and of relative paths; absolute once loaded.
        pub dir: String,
        /// `dbfilename`: file name of the snapshot.
        pub dbfilename: String,
        /// `save`: when to take a snapshot; empty = never.
        pub save: Vec<SavePoint>,
        /// `encryption-key-file`: keys that files are sealed with; empty = none.
        pub encryption_key_file: String,
        /// `encryption-key-env`: the variable of the environment that holds them; empty = none.
        pub encryption_key_env: String,
        /// `rdbcompression`: compress strings in snapshots.
        pub rdbcompression: bool,
        /// `rdbchecksum`: write and check the checksum of snapshots.
        pub rdbchecksum: bool,
        /// `rdb-version`: version of the snapshots that are written.
        pub rdb_version: u16,
        /// `stop-writes-on-bgsave-error`: refuse writes after a failed snapshot.
        pub stop_writes_on_bgsave_error: bool,
        /// `appendonly`: keep a log of writes.
        pub appendonly: bool,
        /// `appendfilename`: base of the log's file names.
        pub appendfilename: String,
        /// `appenddirname`: folder of the log, below `dir`.
        pub appenddirname: String,
        /// `aof-load-truncated`: start even though the end of the log is cut off.
        pub aof_load_truncated: bool,
        /// `appendfsync`: when the log is forced to the disk.
        pub appendfsync: AppendFsync,
        /// `auto-aof-rewrite-percentage`: growth after which the log is rewritten; 0 = never.
        pub auto_aof_rewrite_percentage: u64,
        /// `auto-aof-rewrite-min-size`: bytes up to which it is not.
        pub auto_aof_rewrite_min_size: u64,
        /// `rdb-key-save-delay`: microseconds that a snapshot rests after each key; negative as 0.
        pub rdb_key_save_delay_us: i64,

        // Replication and cluster.
        /// `migrate-pause-max-ms`: how long clients may wait at a flip.
        pub migrate_pause_max_ms: u32,
        /// `migrate-queue-max-bytes`: bytes of the log that may wait to be written to an old Redis.
        pub migrate_queue_max_bytes: u64,
        /// `migrate-scan-value-max-bytes`: bytes of a value that is read whole from a source that is followed by scan.
        pub migrate_scan_value_max_bytes: u64,
        /// `migrate-error-budget`: refusals in a thousand requests after a flip; 0 = any number.
        pub migrate_error_budget: u32,
        /// `replicaof`: the primary to follow.
        pub replicaof: Option<Primary>,
        /// `repl-backlog-size`: bytes of the stream kept for replicas that were away.
        pub repl_backlog_size: u64,
        /// `repl-backlog-ttl`: seconds without a replica after which it is dropped; 0 = never.
        pub repl_backlog_ttl_s: u64,
        /// `repl-diskless-load`: whether a full copy is loaded as it arrives.
        pub repl_diskless_load: DisklessLoad,
        /// `repl-ping-replica-period`: seconds between signs of life to replicas.
        pub repl_ping_replica_period_s: u64,
        /// `repl-timeout`: seconds of silence after which a replication link counts as lost.
        pub repl_timeout_s: u64,
        /// `min-replicas-to-write`: replicas that must be near for a write to be taken; 0 = none.
        pub min_replicas_to_write: u64,
        /// `min-replicas-max-lag`: seconds of silence up to which one counts as near; 0 = none need be.
        pub min_replicas_max_lag_s: u64,
        /// `masteruser`: whom to log in as there; empty = its default user.
        pub master_user: String,
        /// `masterauth`: the password; empty = nobody logs in.
        pub master_auth: Secret,
        /// `replica-serve-stale-data`: reads are answered while the primary cannot be reached.
        pub replica_serve_stale_data: bool,
        /// `replica-read-only`: clients of a replica may not write.
        pub replica_read_only: bool,
        /// `replica-announced`: Sentinels are told of this replica.
        pub replica_announced: bool,
        /// `replica-announce-ip`: address told to the primary; empty = the one in use.
        pub replica_announce_ip: String,
        /// `replica-announce-port`: port told to the primary; 0 = the one in use.
        pub replica_announce_port: u16,
        /// `replica-priority`: Sentinels promote the lowest first, and never 0.
        pub replica_priority: u32,
        /// `cluster-enabled`: speak to clients as a cluster.
        pub cluster_enabled: bool,
        /// `cluster-config-file`: file name of the cluster's state.
        pub cluster_config_file: String,
        /// `cluster-node-timeout`: milliseconds after which a silent node counts as failing.
        pub cluster_node_timeout_ms: u64,
        /// `cluster-port`: port of the cluster's links; 0 = `port` + 10000.
        pub cluster_port: u16,
        /// `cluster-require-full-coverage`: with a slot missing, serve none.
        pub cluster_require_full_coverage: bool,
        /// `cluster-allow-reads-when-down`: serve reads all the same.
        pub cluster_allow_reads_when_down: bool,
        /// `cluster-allow-pubsubshard-when-down`: serve shard channels all the same.
        pub cluster_allow_pubsubshard_when_down: bool,
        /// `cluster-preferred-endpoint-type`: what clients are told to connect to.
        pub cluster_preferred_endpoint_type: EndpointType,
        /// `cluster-announce-ip`: address told to clients; empty = the one in use.
        pub cluster_announce_ip: String,
        /// `cluster-announce-hostname`: host name told to clients; empty = none.
        pub cluster_announce_hostname: String,
        /// `cluster-announce-human-nodename`: name for logs; empty = none.
        pub cluster_announce_human_nodename: String,
        /// `cluster-slot-stats-enabled`: processor time and bytes are counted for each slot.
        pub cluster_slot_stats_enabled: bool,
        /// `cluster-announce-port`: port told to clients; 0 = the one in use.
        pub cluster_announce_port: u16,
        /// `cluster-announce-tls-port`: TLS port told to clients; 0 = the one in use.
        pub cluster_announce_tls_port: u16,
        /// `cluster-announce-bus-port`: link port told to nodes; 0 = the one in use.
        pub cluster_announce_bus_port: u16,

        // Process.
        /// `databases`: numbered databases.
        pub databases: u32,
        /// `daemonize`: leave the terminal.
        pub daemonize: bool,
        /// `supervised`: whom to tell that the server is ready.
        pub supervised: Supervised,
        /// `pidfile`: path; empty = none.
        pub pidfile: String,
        /// `loglevel`: how much is logged.
        pub loglevel: LogLevel,
        /// `logfile`: path; empty = standard output.
        pub logfile: String,
        /// `always-show-logo`: show the logo even in a log file.
        pub always_show_logo: bool,
        /// `hz`: background rounds a second, 1 to 500; kept for INFO.
        pub hz: u32,
        /// `busy-reply-threshold` (`lua-time-limit`): milliseconds a script runs before others hear BUSY.
        pub busy_reply_threshold_ms: u64,
        /// `script-kill-after-ms`: milliseconds after which a script is stopped and undone; 0 = never.
        pub script_kill_after_ms: u64,
        /// `script-memory-max`: bytes that scripts may use on each core.
        pub script_memory_max: u64,
        /// `shutdown-timeout`: seconds a shutdown waits for replicas.
        pub shutdown_timeout_s: u32,
        /// `shutdown-on-sigint`: how SIGINT shuts down.
        pub shutdown_on_sigint: ShutdownFlags,
        /// `shutdown-on-sigterm`: how SIGTERM shuts down.
        pub shutdown_on_sigterm: ShutdownFlags,
        /// `oom-score-adj`: how the kernel's out-of-memory score is set.
        pub oom_score_adj: OomScoreAdj,
        /// `oom-score-adj-values`: scores of a primary, a replica and a child.
        pub oom_score_adj_values: [i32; 3],

        // Observation.
        /// `slowlog-log-slower-than`: microseconds; 0 = all, -1 = none.
        pub slowlog_log_slower_than_us: i64,
        /// `slowlog-max-len`: entries of SLOWLOG.
        pub slowlog_max_len: u64,
        /// `commandlog-request-larger-than`: bytes; -1 = none.
        pub commandlog_request_larger_than_bytes: i64,
        /// `commandlog-large-request-max-len`: notes kept.
        pub commandlog_large_request_max_len: u64,
        /// `commandlog-reply-larger-than`: bytes; -1 = none.
        pub commandlog_reply_larger_than_bytes: i64,
        /// `commandlog-large-reply-max-len`: notes kept.
        pub commandlog_large_reply_max_len: u64,
        /// `latency-monitor-threshold`: milliseconds; 0 = off.
        pub latency_monitor_threshold_ms: u64,
        /// `latency-tracking`: keep a histogram for each command.
        pub latency_tracking: bool,
        /// `latency-tracking-info-percentiles`: shown by INFO latencystats.
        pub latency_tracking_info_percentiles: Vec<f64>,
        /// `notify-keyspace-events`: which events are published.
        pub notify_keyspace_events: KeyspaceEvents,
    }
}

/// Redis takes any `hz` and works with one between these.
const HZ_MIN: u32 = 1;
const HZ_MAX: u32 = 500;

impl Config {
    /// Brings values that are taken but not meant literally into their range.
    pub(super) fn settle(&mut self) {
        self.hz = self.hz.clamp(HZ_MIN, HZ_MAX);
    }

    /// How many numbered databases there are: the number of one is a byte.
    pub fn db_count(&self) -> usize {
        self.databases.clamp(1, 256) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_the_fields() {
        let config = Config::default();
        assert_eq!(config.port, 6379);
        assert_eq!(config.bind, ["*", "-::*"]);
        assert_eq!(config.maxmemory_policy, MaxmemoryPolicy::NoEviction);
        assert_eq!(config.save.len(), 3);
        assert_eq!(
            config.client_output_buffer_limit.pubsub.hard_bytes,
            32 << 20
        );
        assert_eq!(config.hash_max_listpack_entries, 512);
        assert_eq!(config.latency_tracking_info_percentiles, [50.0, 99.0, 99.9]);
        assert_eq!(config.oom_score_adj_values, [0, 200, 800]);
        assert!(config.requirepass.is_empty());
    }
}
