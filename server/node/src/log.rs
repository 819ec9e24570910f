//! The server's log: lines in Redis's form, on standard output or in `logfile`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use crate::config::{Config, LogLevel};
use crate::node::Node;
use crate::start::unix_ms;

/// See the module's head.
pub struct Log {
    out: Mutex<Box<dyn Write + Send>>,
    level: Mutex<LogLevel>,
}

impl Log {
    /// Opens what `logfile` names.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(config: &Config) -> io::Result<Log> {
        let out: Box<dyn Write + Send> = if config.logfile.is_empty() {
            Box::new(io::stdout())
        } else {
            Box::new(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&config.logfile)?,
            )
        };
        Ok(Log {
            out: Mutex::new(out),
            level: Mutex::new(config.loglevel),
        })
    }

    /// Logs no more than this from now on (CONFIG SET loglevel).
    pub fn set_level(&self, level: LogLevel) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
    }

    fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something an operator may want to know.
    pub fn notice(&self, text: &str) {
        if !matches!(self.level(), LogLevel::Warning | LogLevel::Nothing) {
            self.line('*', text);
        }
    }

    /// Something an operator must know.
    pub fn warning(&self, text: &str) {
        if self.level() != LogLevel::Nothing {
            self.line('#', text);
        }
    }

    /// The server takes connections.
    pub fn ready(&self, node: &Node) {
        let config = node.config();
        let driver = node.handle().map_or("", |handle| handle.driver());
        self.notice(&format!(
            "Meridian {} on {} cores by {driver}, pid {}",
            env!("CARGO_PKG_VERSION"),
            node.cores(),
            std::process::id()
        ));
        if config.port != 0 {
            self.notice(&format!(
                "Ready to accept connections tcp on port {}",
                config.port
            ));
        }
        if config.tls_port != 0 {
            self.notice(&format!(
                "Ready to accept connections tls on port {}",
                config.tls_port
            ));
        }
        if !config.unixsocket.is_empty() {
            self.notice(&format!(
                "Ready to accept connections unix at {}",
                config.unixsocket
            ));
        }
    }

    fn line(&self, mark: char, text: &str) {
        let now_ms = unix_ms();
        let line = format!("{}:M {} {mark} {text}\n", std::process::id(), utc(now_ms));
        if let Ok(mut out) = self.out.lock() {
            // A log that cannot be written has nowhere to complain.
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// Unix milliseconds as `25 Nov 2026 18:39:30.123` (UTC).
pub fn utc(unix_ms: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days to civil date, after Howard Hinnant's chrono algorithms (eras of 400 years from 1 March 0000).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{day:02} {} {year} {hour:02}:{minute:02}:{second:02}.{:03}",
        MONTHS.get(month as usize).unwrap_or(&"???"),
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "01 Jan 1970 00:00:00.000");
        assert_eq!(utc(951_782_399_999), "28 Feb 2000 23:59:59.999");
        assert_eq!(utc(951_782_400_000), "29 Feb 2000 00:00:00.000");
        assert_eq!(utc(1_798_761_600_000), "01 Jan 2027 00:00:00.000");
    }
}
