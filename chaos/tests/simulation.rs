//! The simulator itself: the same seed is the same run, a few hundred seeds find nothing, and every planted fault is found.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use chaos::sim::{Options, Plant, run};

/// Seeds in which a planted fault must show at the latest.
const PLANTED_SEEDS_MAX: u64 = 400;

#[test]
fn one_seed_is_one_run_byte_by_byte() {
    let options = Options {
        trace: true,
        plant: None,
    };
    for seed in 1..=6 {
        let (one, other) = (run(seed, &options), run(seed, &options));
        let pairs = one.trace.iter().zip(&other.trace);
        for (a, b) in pairs {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(one.digest, other.digest, "seed {seed}");
        assert!(one.digest.1 > 100, "there is something to compare");
        assert_ne!(one.digest, run(seed + 1, &options).digest);
    }
}

#[test]
fn seeds_find_nothing() {
    let mut deeds = 0;
    for seed in 1..=200 {
        let report = run(seed, &Options::default());
        assert!(report.faults.is_empty(), "seed {seed}: {:?}", report.faults);
        deeds += report.deeds;
    }
    assert!(deeds > 10_000, "the players play: {deeds}");
}

#[test]
fn every_planted_fault_is_found() {
    for (name, plant) in Plant::ALL {
        let options = Options {
            trace: false,
            plant: Some(plant),
        };
        let finds = |seed: &u64| !run(*seed, &options).faults.is_empty();
        let found = (1..=PLANTED_SEEDS_MAX).find(finds);
        assert!(found.is_some(), "{name}: not found");
    }
}
