//! What each section of INFO says.
//!
//! The names are those that tools of Redis read. A number is shown only when it is measured: what
//! Meridian does not have is 0 (no replicas), and what it has but does not measure is left
//! out.
//!
//! `used_memory` is what `maxmemory` bounds: the exact sum of what the data takes, connections with their buffers, scripts, and what
//! was there at the start.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use runtime::{CoreId, StatsNow};
use storage::SLOTS;

use crate::acl::Denial;
use crate::admin::memory::{Excess, Report, percent};
use crate::admin::{VERSION_REPORTED, latency};
use crate::config::Choice;
use crate::control::snapshot::Goal;
use crate::core::Core;
use crate::keysizes::KeySizes;
use crate::node::Node;
use crate::process;
use crate::pubsub::Topic;
use crate::rates::PerSecond;
use crate::replicas::State;
use crate::stats::RowCount;

/// What the sections are written from, gathered once.
pub(super) struct Facts<'a> {
    core: &'a Core,
    node: &'a Node,
    now_ms: u64,
    /// The runtime's counters, by core.
    runtime: Vec<StatsNow>,
    per_second: PerSecond,
    /// Lengths of keys, if they were asked for.
    sizes: KeySizes,
}

impl Facts<'_> {
    pub(super) fn gather(core: &Core, sizes: KeySizes) -> Facts<'_> {
        let node = core.node;
        let now_ms = core.now.unix_ms;
        Facts {
            core,
            node,
            now_ms,
            runtime: node.runtime_stats(),
            per_second: node.rates.per_second(node.sample(now_ms)),
            sizes,
        }
    }

    fn sum(&self, counter: impl Fn(&StatsNow) -> u64) -> u64 {
        self.runtime.iter().map(counter).sum()
    }

    fn max(&self, counter: impl Fn(&StatsNow) -> u64) -> u64 {
        self.runtime.iter().map(counter).max().unwrap_or(0)
    }

    /// Ticks of the processor's counter as microseconds.
    fn us(&self, ticks: u64) -> u64 {
        (ticks as f64 / self.core.ticks_per_us) as u64
    }

    /// Ticks that all calls of commands have taken.
    fn command_ticks(&self) -> u64 {
        let mut count = RowCount::default();
        for row in self.core.table.rows() {
            let cores = self.node.published.iter();
            cores.for_each(|core| core.add_row(row.index, &mut count));
        }
        count.ticks
    }

    fn driver(&self) -> &'static str {
        self.node.handle().map_or("none", |handle| handle.driver())
    }
}

/// Appends `name:value` lines. Writing to a String cannot fail.
macro_rules! lines {
    ($out:expr, $($name:literal: $value:expr,)+) => {
        $(let _ = write!($out, concat!($name, ":{}\r\n"), $value);)+
    };
}

pub(super) fn server(out: &mut String, facts: &Facts<'_>) {
    let (node, config) = (facts.node, &facts.core.config);
    let uptime_s = facts.now_ms.saturating_sub(node.started_ms) / 1000;
    let mode = if config.cluster_enabled {
        "cluster"
    } else {
        "standalone"
    };
    lines!(out,
        "redis_version": VERSION_REPORTED,
        "meridian_version": env!("CARGO_PKG_VERSION"),
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": build_id(),
        "redis_mode": mode,
        "os": process::system(),
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": facts.driver(),
        "gcc_version": "0.0.0",
        "process_id": std::process::id(),
        "process_supervised": "no",
        "run_id": node.run_id,
        "tcp_port": config.port,
        "server_time_usec": facts.now_ms * 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s / 86_400,
        "hz": config.hz,
        "configured_hz": config.hz,
        "lru_clock": (facts.now_ms / 1000) & 0xff_ffff,
        "executable": node.executable,
        "config_file": node.config_file.as_deref().unwrap_or(""),
        "io_threads_active": 0,
    );
    let mut listeners = 0;
    let binds: String = config
        .bind
        .iter()
        .map(|bind| format!(",bind={bind}"))
        .collect();
    if config.port != 0 {
        let _ = write!(
            out,
            "listener{listeners}:name=tcp{binds},port={}\r\n",
            config.port
        );
        listeners += 1;
    }
    if config.tls_port != 0 {
        let _ = write!(
            out,
            "listener{listeners}:name=tls{binds},port={}\r\n",
            config.tls_port
        );
        listeners += 1;
    }
    if !config.unixsocket.is_empty() {
        let _ = write!(
            out,
            "listener{listeners}:name=unix,bind={}\r\n",
            config.unixsocket
        );
    }
}

pub(super) fn clients(out: &mut String, facts: &Facts<'_>) {
    lines!(out,
        "connected_clients": facts.node.clients.load(Relaxed),
        "cluster_connections": 0,
        "maxclients": facts.core.config.maxclients,
        "client_recent_max_input_buffer": facts.node.max(|core| &core.recent_input),
        "client_recent_max_output_buffer": facts.node.max(|core| &core.recent_output),
        "blocked_clients": facts.node.blocked.load(Relaxed),
        "tracking_clients": facts.node.tracking.clients.load(Relaxed),
        "pubsub_clients": facts.node.listening.load(Relaxed),
        "watching_clients": facts.node.watching.load(Relaxed),
        "clients_in_timeout_table": facts.node.blocked_for_time.load(Relaxed),
        "total_watched_keys": facts.node.sum(|core| &core.watched_keys),
        "total_blocking_keys": facts.node.blocking_keys.load(Relaxed),
        "total_blocking_keys_on_nokey": facts.node.blocking_keys_on_nokey.load(Relaxed),
    );
}

/// Sixteen hexadecimal digits of this version.
fn build_id() -> String {
    let version = concat!(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    format!("{:016x}", storage::rdb::crc64(0, version.as_bytes()))
}

/// Bytes as people read them: a number below 1024 and its unit.
fn human(bytes: u64) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (63 - bytes.leading_zeros()) / 10;
    let unit = UNITS.get(power as usize - 1).unwrap_or(&'E');
    format!(
        "{:.2}{unit}",
        bytes as f64 / f64::from(1024u32).powi(power.cast_signed())
    )
}

pub(super) fn memory(out: &mut String, facts: &Facts<'_>) {
    let config = &facts.core.config;
    let report = Report::of(facts.node);
    let (used, peak) = (report.used.total, report.peak);
    let ratio = |excess: Excess| format!("{:.2}", excess.ratio);
    let scripting = &facts.node.scripting;
    // One state of Lua runs the scripts and the functions of a core: it is told as that of the scripts.
    let (lua, libraries) = (scripting.lua_bytes(), scripting.libraries());
    let (texts, cached) = {
        let cache = scripting.cache();
        (cache.bytes() as u64, cache.len())
    };
    let (inside, pages) = (
        report.allocator_fragmentation(),
        report.allocator_resident(),
    );
    lines!(out,
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": report.resident,
        "used_memory_rss_human": human(report.resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": format_args!("{:.2}%", percent(used, peak)),
        "used_memory_overhead": report.overhead(),
        "used_memory_startup": report.startup,
        "used_memory_dataset": report.dataset(),
        "used_memory_dataset_perc": format_args!("{:.2}%", report.dataset_percent()),
        "allocator_allocated": used,
        "allocator_active": report.active,
        "allocator_resident": report.resident,
        "allocator_muzzy": 0,
        "total_system_memory": report.machine,
        "total_system_memory_human": human(report.machine),
        "used_memory_lua": lua,
        "used_memory_vm_eval": lua,
        "used_memory_lua_human": human(lua),
        "used_memory_scripts_eval": texts,
        "number_of_cached_scripts": cached,
        "number_of_functions": libraries.functions(),
        "number_of_libraries": libraries.iter().len(),
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": lua,
        "used_memory_vm_total_human": human(lua),
        "used_memory_functions": libraries.bytes(),
        "used_memory_scripts": texts + libraries.bytes() as u64,
        "used_memory_scripts_human": human(texts + libraries.bytes() as u64),
        "maxmemory": config.maxmemory,
        "maxmemory_human": human(config.maxmemory),
        "maxmemory_policy": config.maxmemory_policy.word(),
        "allocator_frag_ratio": ratio(inside),
        "allocator_frag_bytes": inside.bytes,
        "allocator_rss_ratio": ratio(pages),
        "allocator_rss_bytes": pages.bytes,
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "mem_fragmentation_ratio": ratio(report.fragmentation()),
        "mem_fragmentation_bytes": report.fragmentation().bytes,
        "mem_not_counted_for_evict": 0,
        "mem_replication_backlog": facts.node.replicas.stream().heap_bytes,
        "mem_total_replication_buffers": facts.node.replicas.stream().heap_bytes,
        "mem_clients_slaves": 0,
        "mem_clients_normal": report.used.clients,
        "mem_cluster_links": 0,
        "mem_aof_buffer": facts.node.write_log.queued_bytes(),
        "mem_allocator": "mimalloc",
        "mem_overhead_db_hashtable_rehashing": 0,
        "active_defrag_running": facts.node.memory.compact_percent.load(Relaxed),
        "lazyfree_pending_objects": facts.node.sum(|core| &core.garbage_values),
        "lazyfreed_objects": facts.node.sum(|core| &core.values_freed_lazily),
    );
}

pub(super) fn persistence(out: &mut String, facts: &Facts<'_>) {
    let (node, log) = (facts.node, &facts.node.write_log);
    let (snapshots, loading, now_ms) = (
        node.snapshots.facts(),
        &node.loading,
        facts.core.now.unix_ms,
    );
    let seconds = |s: Option<u64>| s.map_or(-1, u64::cast_signed);
    let (saves_ms, rewrites_ms) = (
        snapshots.since_ms_for(Goal::File),
        crate::rewrite::rewrites_since_ms(node, now_ms),
    );
    let rewrites = snapshots.rewrites;
    let since =
        |since_ms: Option<u64>| seconds(since_ms.map(|ms| now_ms.saturating_sub(ms) / 1000));
    let is_on = snapshots.since_ms.is_some();
    let keys_total = if is_on {
        node.snapshots.keys.1.load(Relaxed)
    } else {
        0
    };
    // The walk is told by slots: keys are spread evenly over them.
    let walked = SLOTS as u64 - node.sum(|core| &core.slots_left).min(SLOTS as u64);
    let keys_processed = keys_total * walked / SLOTS as u64;
    lines!(out,
        "loading": u8::from(loading.is_on()),
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": format_args!("{:.2}", percent(keys_processed, keys_total)),
        "current_save_keys_processed": keys_processed,
        "current_save_keys_total": keys_total,
        "rdb_changes_since_last_save": node.sum(|core| &core.changes).saturating_sub(snapshots.changes),
        "rdb_bgsave_in_progress": u8::from(saves_ms.is_some()),
        "rdb_last_save_time": snapshots.last_save_s,
        "rdb_last_bgsave_status": if snapshots.has_failed { "err" } else { "ok" },
        "rdb_last_bgsave_time_sec": seconds(snapshots.last_took_s),
        "rdb_current_bgsave_time_sec": since(saves_ms),
        "rdb_saves": snapshots.saves,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": loading.keys_expired.load(Relaxed),
        "rdb_last_load_keys_loaded": loading.keys_loaded.load(Relaxed),
        "aof_enabled": u8::from(node.config().appendonly),
        "aof_rewrite_in_progress": u8::from(rewrites_ms.is_some()),
        "aof_rewrite_scheduled": u8::from(rewrites.scheduled),
        "aof_last_rewrite_time_sec": seconds(rewrites.last_took_s),
        "aof_current_rewrite_time_sec": since(rewrites_ms),
        "aof_last_bgrewrite_status": if rewrites.has_failed { "err" } else { "ok" },
        "aof_rewrites": rewrites.count,
        "aof_rewrites_consecutive_failures": rewrites.failures,
        "aof_last_cow_size": 0,
        "aof_last_write_status": if log.is_failed() { "err" } else { "ok" },
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    );
    if log.is_on() {
        let (counters, sizes) = (&log.counters, log.sizes());
        lines!(out,
            "aof_current_size": sizes.now,
            "aof_base_size": sizes.before,
            "aof_pending_rewrite": u8::from(rewrites.scheduled),
            "aof_buffer_length": log.queued_bytes(),
            "aof_pending_bio_fsync": u8::from(log.is_syncing()),
            "aof_delayed_fsync": counters.delayed.load(Relaxed),
            "aof_fsyncs": counters.syncs.load(Relaxed),
        );
    }
    if loading.is_on() {
        let (total, done) = (
            loading.total_bytes.load(Relaxed),
            loading.loaded_bytes.load(Relaxed),
        );
        let since_ms = loading.since_ms.load(Relaxed);
        let took_ms = now_ms.saturating_sub(since_ms);
        // (The whole is what the source says.)
        let left = u128::from(total.saturating_sub(done));
        let rest_ms = u128::from(took_ms) * left / u128::from(done.max(1));
        lines!(out,
            "loading_start_time": since_ms / 1000,
            "loading_total_bytes": total,
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": done,
            "loading_loaded_perc": format_args!("{:.2}", done as f64 * 100.0 / total.max(1) as f64),
            "loading_eta_seconds": rest_ms / 1000,
        );
    }
}

pub(super) fn stats(out: &mut String, facts: &Facts<'_>) {
    let node = facts.node;
    let rates = &facts.per_second;
    let (exceeds_us, exceeded_us) = node.exceeded_us(facts.core.now.mono_us);
    lines!(out,
        "total_connections_received": node.sum(|core| &core.accepted),
        "total_commands_processed": node.sum(|core| &core.commands),
        "instantaneous_ops_per_sec": rates.commands.round(),
        "total_net_input_bytes": facts.sum(|core| core.bytes_in),
        "total_net_output_bytes": facts.sum(|core| core.bytes_out),
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": format_args!("{:.2}", rates.bytes_in / 1024.0),
        "instantaneous_output_kbps": format_args!("{:.2}", rates.bytes_out / 1024.0),
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": node.sum(|core| &core.turned_away),
        "sync_full": node.replicas.counters.full.load(Relaxed),
        "sync_partial_ok": node.replicas.counters.partial_ok.load(Relaxed),
        "sync_partial_err": node.replicas.counters.partial_err.load(Relaxed),
        "expired_subkeys": node.sum(|core| &core.fields_expired),
        "expired_keys": node.sum(|core| &core.expired),
        "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "expire_cycle_cpu_milliseconds": facts.us(node.sum(|core| &core.expire_ticks)) / 1000,
        "evicted_keys": node.sum(|core| &core.evicted),
        "evicted_clients": node.sum(|core| &core.evicted_clients),
        "evicted_scripts": node.scripting.cache().evicted(),
        "total_eviction_exceeded_time": exceeded_us / 1000,
        "current_eviction_exceeded_time": exceeds_us / 1000,
        "keyspace_hits": node.sum(|core| &core.hits),
        "keyspace_misses": node.sum(|core| &core.misses),
        "pubsub_channels": facts.core.pubsub.len(Topic::Channel),
        "pubsub_patterns": facts.core.pubsub.len(Topic::Pattern),
        "pubsubshard_channels": facts.core.pubsub.len(Topic::Shard),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": node.links.kept(),
        "slave_expires_tracked_keys": 0,
        "active_defrag_hits": node.sum(|core| &core.compacted_blocks),
        "active_defrag_misses": node.sum(|core| &core.compact_misses),
        "active_defrag_key_hits": node.sum(|core| &core.compacted_keys),
        "active_defrag_key_misses": node.sum(|core| &core.compact_misses),
        "total_active_defrag_time": facts.us(node.sum(|core| &core.compact_ticks)) / 1000,
        "current_active_defrag_time": 0,
        "tracking_total_keys": facts.node.tracking.keys.load(Relaxed),
        "tracking_total_items": facts.node.tracking.items.load(Relaxed),
        "tracking_total_prefixes": facts.node.tracking.prefixes.load(Relaxed),
        "unexpected_error_replies": 0,
        "total_error_replies": node.sum(|core| &core.errors_total),
        "dump_payload_sanitizations": 0,
        "total_reads_processed": facts.sum(|core| core.recvs),
        "total_writes_processed": facts.sum(|core| core.sends),
        "io_threaded_reads_processed": 0,
        "io_threaded_writes_processed": 0,
        "reply_buffer_shrinks": 0,
        "reply_buffer_expands": 0,
        "eventloop_cycles": facts.sum(|core| core.turns),
        "eventloop_duration_sum": facts.sum(|core| core.turns_us),
        "eventloop_duration_cmd_sum": facts.us(facts.command_ticks()),
        "instantaneous_eventloop_cycles_per_sec": rates.turns.round(),
        "instantaneous_eventloop_duration_usec": (rates.turns_us / rates.turns.max(1.0)).round(),
        "client_query_buffer_limit_disconnections": node.sum(|core| &core.input_limit_closes),
        "client_output_buffer_limit_disconnections": node.sum(|core| &core.output_limit_closes),
    );
    let log = node.acl_log.lock().unwrap_or_else(PoisonError::into_inner);
    for denial in Denial::ALL {
        let (name, count) = (denial.counter(), log.count(denial));
        let _ = write!(out, "acl_access_denied_{name}:{count}\r\n");
    }
}

pub(super) fn replication(out: &mut String, facts: &Facts<'_>) {
    let (node, config) = (facts.node, &facts.core.config);
    let (links, history, stream) = (
        node.replicas.links(),
        node.replicas.history(),
        node.replicas.stream(),
    );
    crate::source::info::write_role(out, facts.core);
    lines!(out, "connected_slaves": links.len(),);
    if config.min_replicas_to_write > 0 && config.min_replicas_max_lag_s > 0 {
        lines!(out, "min_slaves_good_slaves": node.replicas.near(),);
    }
    for (number, link) in links.iter().enumerate() {
        let lag_s = match link.state() {
            State::Online => link.silent_ms(facts.core.now.unix_ms) / 1000,
            _ => 0,
        };
        let _ = write!(
            out,
            "slave{number}:ip={},port={},state={},offset={},lag={lag_s}\r\n",
            link.ip,
            link.said.port,
            link.state().name(),
            link.acked(),
        );
    }
    let second = history.second_offset.map_or(-1, u64::cast_signed);
    // A replica shows whose history its data has; those that follow it are told one of its own.
    let (id, end) = match node.source.position() {
        Some(position) => (position.replid.text().to_owned(), position.offset),
        None => (history.id, stream.end),
    };
    let first = if stream.is_on { stream.first + 1 } else { 0 };
    lines!(out,
        "master_failover_state": "no-failover",
        "master_replid": id,
        "master_replid2": history.id2,
        "master_repl_offset": end,
        "second_repl_offset": second,
        "repl_backlog_active": u8::from(stream.is_on),
        "repl_backlog_size": config.repl_backlog_size,
        "repl_backlog_first_byte_offset": first,
        "repl_backlog_histlen": stream.end - stream.first,
    );
}

pub(super) fn cpu(out: &mut String, _: &Facts<'_>) {
    let (time, cores) = (process::cpu_time(), process::threads_cpu_time("core-"));
    lines!(out,
        "used_cpu_sys": format_args!("{:.6}", time.system),
        "used_cpu_user": format_args!("{:.6}", time.user),
        "used_cpu_sys_children": format_args!("{:.6}", time.system_children),
        "used_cpu_user_children": format_args!("{:.6}", time.user_children),
        "used_cpu_sys_main_thread": format_args!("{:.6}", cores.system),
        "used_cpu_user_main_thread": format_args!("{:.6}", cores.user),
    );
}

pub(super) fn commandstats(out: &mut String, facts: &Facts<'_>) {
    for row in facts.core.table.rows() {
        let mut count = RowCount::default();
        let cores = facts.node.published.iter();
        cores.for_each(|core| core.add_row(row.index, &mut count));
        if count != RowCount::default() {
            let us = count.ticks as f64 / facts.core.ticks_per_us;
            let _ = write!(
                out,
                "cmdstat_{}:calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
                row.spec.name,
                count.calls,
                us as u64,
                us / count.calls.max(1) as f64,
                count.rejections,
                count.failures
            );
        }
    }
}

pub(super) fn latencystats(out: &mut String, facts: &Facts<'_>) {
    let core = facts.core;
    if !core.config.latency_tracking {
        return;
    }
    for row in core.table.rows() {
        let Some(histogram) = latency::histogram_of(core, row.index) else {
            continue;
        };
        let percentiles = core.config.latency_tracking_info_percentiles.iter();
        let told: Vec<String> = percentiles
            .map(|percent| {
                let us = histogram.percentile(*percent) as f64 / core.ticks_per_us;
                format!("p{percent}={us:.3}")
            })
            .collect();
        let name = row.spec.name;
        let _ = write!(
            out,
            "latency_percentiles_usec_{name}:{}\r\n",
            told.join(",")
        );
    }
}

pub(super) fn errorstats(out: &mut String, facts: &Facts<'_>) {
    let mut errors = HashMap::new();
    let cores = facts.node.published.iter();
    cores.for_each(|core| core.add_errors(&mut errors));
    let mut errors: Vec<_> = errors.into_iter().collect();
    errors.sort_unstable();
    for (code, count) in errors {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

pub(super) fn cluster(out: &mut String, facts: &Facts<'_>) {
    lines!(out, "cluster_enabled": u8::from(facts.core.config.cluster_enabled),);
}

pub(super) fn key_sizes(text: &mut String, facts: &Facts<'_>) {
    facts.sizes.write(text);
}

pub(super) fn keyspace(out: &mut String, facts: &Facts<'_>) {
    for db in 0..facts.core.shard.db_count() {
        let (keys, expires) = facts.node.db_count(db);
        if keys > 0 {
            let _ = write!(out, "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n");
        }
    }
}

pub(super) fn meridian(out: &mut String, facts: &Facts<'_>) {
    let node = facts.node;
    let commands = node.sum(|core| &core.commands);
    let entries = facts.sum(|core| core.kernel_entries);
    let each = if commands == 0 {
        0.0
    } else {
        entries as f64 / commands as f64
    };
    lines!(out,
        "driver": facts.driver(),
        "cores": node.cores(),
        "turns": facts.sum(|core| core.turns),
        "kernel_entries": entries,
        "kernel_entries_per_request": format_args!("{each:.3}"),
        "recvs": facts.sum(|core| core.recvs),
        "sends": facts.sum(|core| core.sends),
        "turn_longest_us": facts.max(|core| core.turn_longest_us),
        "turn_longest_cpu_us": facts.max(|core| core.turn_longest_cpu_us),
        "forwarded_requests": node.sum(|core| &core.forwarded),
        "transactions_over_cores": node.sum(|core| &core.transactions),
        "transaction_retries": node.sum(|core| &core.retries),
        "requests_aside": node.sum(|core| &core.asides),
        "elements_freed_in_slices": node.sum(|core| &core.freed_lazily),
        "connected_clients_peak": node.clients_peak.load(Relaxed),
    );
    if facts.core.config.tls_port != 0 {
        lines!(out,
            "tls_certificate_days_left": node.tls_days_left(facts.now_ms),
            "tls_reload_failures": node.tls_reload_failures.load(Relaxed),
        );
    }
    for (number, (core, runtime)) in node.published.iter().zip(&facts.runtime).enumerate() {
        let range = node.range(CoreId(number as u16));
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        let _ = write!(
            out,
            "core{number}:first_slot={},last_slot={},clients={},commands={},forwarded={},used_memory={},turns={},\
             kernel_entries={},recvs={},sends={},turn_longest_us={},turn_longest_cpu_us={}\r\n",
            range.start,
            range.end.saturating_sub(1),
            get(&core.clients),
            get(&core.commands),
            get(&core.forwarded),
            get(&core.used_bytes),
            runtime.turns,
            runtime.kernel_entries,
            runtime.recvs,
            runtime.sends,
            runtime.turn_longest_us,
            runtime.turn_longest_cpu_us,
        );
    }
}

/// What is passed on to a source.
pub(super) fn migration(out: &mut String, facts: &Facts<'_>) {
    let front = &facts.node.front;
    lines!(out,
        "authority": format!("{:?}", facts.node.source.authority()).to_ascii_lowercase(),
        "front_upstreams": front.upstreams.load(Relaxed),
        "front_passed_on": front.passed_on.load(Relaxed),
        "front_answered_here": front.answered_here.load(Relaxed),
        "front_under_way": front.under_way.load(Relaxed),
        "front_failures": front.failures.load(Relaxed),
        "front_unknown": front.unknown.load(Relaxed),
        "front_last_hold_us": front.last_hold_us.load(Relaxed),
    );
}

#[cfg(test)]
mod tests {
    use super::{human, percent};

    #[test]
    fn bytes_for_people() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_408_432, "1.34M"),
            (5 << 30, "5.00G"),
            (u64::MAX, "16.00E"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
        assert_eq!((percent(1, 4), percent(1, 0)), (25.0, 0.0));
    }
}
