//! What the way through this server costs a client, beside the same requests straight to the source, in the same run. Prints, asserts
//! nothing: `cargo test --profile quick -p node --test front -- --ignored --nocapture cost`.

use std::time::{Duration, Instant};

use node::config::Io;

use crate::harness::{Client, Here, Redis};

const CLIENTS: usize = 8;
/// Turns of each way, one after the other, and how long each is.
const SLICES: usize = 10;
const SLICE: Duration = Duration::from_millis(500);

/// What is asked, and what of this node answers it.
const LOADS: [(&str, &[&str], bool); 4] = [
    ("SET", &["SET k{} v"], false),
    ("SET, GET", &["SET k{} v", "GET k{}"], false),
    ("GET by the source", &["GET k{}"], false),
    ("GET here", &["GET k{}"], true),
];

/// Closed loops for a slice of time: how long each request took, us.
fn slice(clients: &mut [Client], requests: &[&str]) -> Vec<u64> {
    std::thread::scope(|scope| {
        let loops: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn(move || {
                    let (begin, mut took) = (Instant::now(), Vec::new());
                    while begin.elapsed() < SLICE {
                        let request = requests[took.len() % requests.len()];
                        let request = request.replace("{}", &number.to_string());
                        let sent = Instant::now();
                        let _reply = client.call(&request);
                        took.push(sent.elapsed().as_micros() as u64);
                    }
                    took
                })
            })
            .collect();
        loops
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    })
}

#[test]
#[ignore = "a measurement"]
fn cost() {
    let source = Redis::start(&[]);
    let here = Here::before(2, Io::Auto, &source);
    println!(
        "{CLIENTS} clients, us: {:<20} {:>8} {:>8} {:>9}",
        "", "p50", "p99", "each s"
    );
    for (what, requests, is_here) in LOADS {
        here.node
            .source
            .set_applied(if is_here { u64::MAX - 1 } else { 0 });
        let mut straight: Vec<Client> = (0..CLIENTS).map(|_| source.client()).collect();
        let mut through: Vec<Client> = (0..CLIENTS).map(|_| here.client()).collect();
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..SLICES {
            took[0].extend(slice(&mut straight, requests));
            took[1].extend(slice(&mut through, requests));
        }
        for (way, mut took) in ["straight", "through"].into_iter().zip(took) {
            took.sort_unstable();
            let at = |percent: usize| took[took.len() * percent / 100];
            let seconds = SLICE.as_secs_f64() * SLICES as f64;
            let rate = took.len() as f64 / seconds;
            let name = format!("{what}, {way}");
            println!("{name:<41} {:>8} {:>8} {rate:>9.0}", at(50), at(99));
        }
    }
}
