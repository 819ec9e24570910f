//! `meridian`: arguments, configuration, cores, wait.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;

use node::config::{self, Disk, Start};
use node::control::migrate::cli;
use node::control::unseal::unseal;
use node::{allocator, log, start};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: heap::Small<mimalloc::MiMalloc> = heap::Small(mimalloc::MiMalloc);

fn main() -> ExitCode {
    allocator::put_off_purging();
    let args: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(OsStringExt::into_vec)
        .collect();
    if args.first().is_some_and(|word| word == b"unseal") {
        return let_out(&args[1..]);
    }
    if args.first().is_some_and(|word| word == b"migrate") {
        return cli::run(&args[1..]);
    }
    match config::from_args(&args, &Disk) {
        Ok(Start::Run(loaded)) => run(*loaded),
        Ok(Start::Help) => say(config::help_text()),
        Ok(Start::Version) => say(&config::version_text()),
        Ok(Start::Docs) => say(&config::print_docs()),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `unseal IN OUT` and a configuration that names keys.
fn let_out(args: &[Vec<u8>]) -> ExitCode {
    let [input, output, rest @ ..] = args else {
        eprintln!("{}", config::help_text());
        return ExitCode::FAILURE;
    };
    let path = |word: &[u8]| std::path::absolute(Path::new(OsStr::from_bytes(word)));
    let done = match (path(input), path(output), config::from_args(rest, &Disk)) {
        (Ok(input), Ok(output), Ok(Start::Run(loaded))) => unseal(&loaded.config, &input, &output),
        (Err(error), ..) | (_, Err(error), _) => Err(error.to_string()),
        (.., Err(error)) => Err(error.to_string()),
        (.., Ok(_)) => Err("only options that name keys may follow".to_owned()),
    };
    match done {
        Ok(bytes) => say(&format!("{bytes} bytes written in the clear")),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

fn run(loaded: config::Loaded) -> ExitCode {
    let notices = loaded.notices.clone();
    let log = match log::Log::open(&loaded.config) {
        Ok(log) => std::sync::Arc::new(log),
        Err(error) => {
            eprintln!("cannot open the log file: {error}");
            return ExitCode::FAILURE;
        }
    };
    for notice in &notices {
        log.notice(&notice.to_string());
    }
    let mut signals = match Signals::new([SIGTERM, SIGINT]) {
        Ok(signals) => signals,
        Err(error) => {
            log.warning(&format!("cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if loaded
        .config
        .get(&[b"disable-thp"])
        .iter()
        .any(|(_, value)| value == b"yes")
        && let Err(error) = rustix::thread::disable_transparent_huge_pages(true)
    {
        log.warning(&format!(
            "cannot do without transparent huge pages: {error}"
        ));
    }
    let server = match start::start(loaded, &mut |text| log.notice(text)) {
        Ok(server) => server,
        Err(fault) => {
            log.warning(&fault.to_string());
            return ExitCode::FAILURE;
        }
    };
    let node = server.node;
    node.set_log(std::sync::Arc::clone(&log));
    log.ready(node);
    std::thread::spawn(move || {
        for signal in &mut signals {
            let config = node.config();
            log.set_level(config.loglevel);
            log.notice(if signal == SIGINT {
                "Received SIGINT, stopping"
            } else {
                "Received SIGTERM, stopping"
            });
            let flags = if signal == SIGINT {
                config.shutdown_on_sigint
            } else {
                config.shutdown_on_sigterm
            };
            start::shut_down(node, flags);
        }
    });
    match server.join() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
