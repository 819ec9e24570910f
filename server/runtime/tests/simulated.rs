//! Cores that are turned by hand: what a client is told does not overtake the mail that it may rely upon, and a core that
//! sleeps is woken.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use runtime::sim::{Budget, Done, Gate, Simulation};
use runtime::{Config, CoreId, Event, Now, Service, Spread, Turn};

const BUDGET: Budget = Budget {
    mail_max: 4096,
    reads_max: 64,
};

/// Core 0 answers every byte with itself, and tells core 1 of it.
struct Echo {
    seen: Vec<u8>,
}

impl Service for Echo {
    type Mail = u8;

    fn turn(&mut self, turn: &mut Turn<'_, u8>) {
        self.seen.append(turn.mail);
        for event in std::mem::take(turn.events) {
            match event {
                Event::Data { conn, span } => {
                    let bytes = turn.bytes(span).to_vec();
                    bytes
                        .iter()
                        .for_each(|byte| turn.ops.post(CoreId(1), *byte));
                    turn.ops.send(conn, bytes);
                }
                Event::Ended { conn } => turn.ops.close(conn),
                _ => {}
            }
        }
    }
}

fn simulation(mailbox_len_max: usize) -> Simulation<Echo> {
    let config = Config {
        cores: 2,
        mailbox_len_max,
        ..Config::default()
    };
    let gates = vec![Gate {
        core: CoreId(0),
        spread: Spread::Here,
    }];
    let echo = |_, _| Echo { seen: Vec::new() };
    let mut simulation = Simulation::new(&config, gates, Now::default(), echo).unwrap();
    simulation.connect(0, 7);
    rest(&mut simulation, 0);
    rest(&mut simulation, 1);
    simulation
}

/// Steps of one core until it sleeps.
fn rest(simulation: &mut Simulation<Echo>, core: usize) {
    while simulation.is_ready(core) {
        simulation.step(core, BUDGET, |_| {});
    }
}

fn told(simulation: &mut Simulation<Echo>) -> Vec<u8> {
    let mut bytes = Vec::new();
    simulation.take(7, usize::MAX, &mut bytes);
    bytes
}

#[test]
fn mail_wakes_its_core_and_a_turn_is_two_steps() {
    let mut simulation = simulation(8);
    assert!(simulation.is_accepted(7) && !simulation.is_ready(1));
    simulation.arrive(7, b"a");
    let done = simulation.step(0, BUDGET, |_| {});
    assert_eq!(
        done,
        Done::Turned {
            events: 1,
            mails: 0
        }
    );
    assert!(
        !simulation.is_ready(1) && simulation.waiting_bytes(7) == 0,
        "asked for, not done"
    );
    assert_eq!(simulation.step(0, BUDGET, |_| {}), Done::Performed);
    assert!(simulation.is_ready(1), "its bell has been rung");
    assert_eq!(told(&mut simulation), b"a");
    rest(&mut simulation, 1);
    assert_eq!(simulation.service(1).unwrap().seen, b"a");
    assert!(!simulation.is_ready(0) && !simulation.is_ready(1));
}

#[test]
fn an_answer_waits_for_the_mail_before_it_when_a_lane_is_full() {
    let mut simulation = simulation(1);
    simulation.arrive(7, b"abc");
    rest(&mut simulation, 0);
    assert_eq!(told(&mut simulation), b"", "b and c have no room yet");
    rest(&mut simulation, 1);
    rest(&mut simulation, 0);
    assert_eq!(told(&mut simulation), b"", "a was taken: c has no room yet");
    rest(&mut simulation, 1);
    rest(&mut simulation, 0);
    assert_eq!(told(&mut simulation), b"abc", "all of it is in its lane");
    rest(&mut simulation, 1);
    assert_eq!(simulation.service(1).unwrap().seen, b"abc");
}

#[test]
fn the_end_of_the_peer_is_told_behind_its_last_bytes() {
    let mut simulation = simulation(8);
    simulation.arrive(7, b"x");
    simulation.finish(7);
    rest(&mut simulation, 0);
    let mut bytes = Vec::new();
    assert!(
        simulation.take(7, 10, &mut bytes),
        "closed behind the answer"
    );
    assert_eq!(bytes, b"x");
}
