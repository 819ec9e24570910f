//! Those who move amounts and write pairs.

use protocol::answer::Answer;

use super::{ACCOUNTS, PAIRS, Shared, Stop, account, count, number, pair, unexpected};
use crate::client::Client;
use crate::rng::Rng;

/// The largest amount moved at once.
const AMOUNT_MAX: i64 = 50;

/// Two different accounts and an amount.
fn choose(rng: &mut Rng) -> (Vec<u8>, Vec<u8>, i64) {
    let from = rng.below(ACCOUNTS);
    let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
    (account(from), account(to), rng.between(1, AMOUNT_MAX))
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

/// MULTI, DECRBY, INCRBY, EXEC: in one write, or each by itself, so that others come in between.
pub(super) fn by_multi(shared: &Shared, mut rng: Rng) -> Result<(), Stop> {
    let mut client = Client::connect(&shared.server)?;
    while shared.goes_on() {
        let (from, to, amount) = choose(&mut rng);
        let amount = amount.to_string();
        let requests = [
            words(&[b"MULTI"]),
            words(&[b"DECRBY", &from, amount.as_bytes()]),
            words(&[b"INCRBY", &to, amount.as_bytes()]),
            words(&[b"EXEC"]),
        ];
        let last = if rng.percent(50) {
            client.send(requests.iter().map(Vec::as_slice))?;
            let (mut answers, lost) = client.receive_all(requests.len());
            if let Some(error) = lost {
                return Err(error.into());
            }
            answers.pop()
        } else {
            let mut last = None;
            for request in &requests {
                client.send([request.as_slice()])?;
                last = Some(client.receive()?);
            }
            last
        };
        match last {
            Some(Answer::Array(done))
                if done.len() == 2
                    && done.iter().all(|answer| matches!(answer, Answer::Int(_))) =>
            {
                count(&shared.transfers);
            }
            Some(other) => return Err(unexpected("EXEC of DECRBY and INCRBY", &other)),
            None => {}
        }
    }
    Ok(())
}

/// WATCH both, read both, set both: EXEC refuses if either changed meanwhile.
pub(super) fn by_watch(shared: &Shared, mut rng: Rng) -> Result<(), Stop> {
    let mut client = Client::connect(&shared.server)?;
    while shared.goes_on() {
        let (from, to, amount) = choose(&mut rng);
        client.call(&[b"WATCH", &from, &to])?;
        let (rich, poor) = (client.call(&[b"GET", &from])?, client.call(&[b"GET", &to])?);
        let (Some(rich), Some(poor)) = (number(&rich), number(&poor)) else {
            return Err(unexpected(
                "GET of an account",
                if number(&rich).is_none() {
                    &rich
                } else {
                    &poor
                },
            ));
        };
        let requests = [
            words(&[b"MULTI"]),
            words(&[b"SET", &from, (rich - amount).to_string().as_bytes()]),
            words(&[b"SET", &to, (poor + amount).to_string().as_bytes()]),
            words(&[b"EXEC"]),
        ];
        client.send(requests.iter().map(Vec::as_slice))?;
        let (mut answers, lost) = client.receive_all(requests.len());
        if let Some(error) = lost {
            return Err(error.into());
        }
        match answers.pop() {
            Some(Answer::Array(done)) if done.len() == 2 => count(&shared.watched),
            Some(Answer::NullArray | Answer::Null) => count(&shared.conflicts),
            Some(other) => return Err(unexpected("EXEC of two SET", &other)),
            None => {}
        }
    }
    Ok(())
}

/// Writes the pairs `index`, `index + step`... with growing stamps; no other thread writes them.
pub(super) fn pairs(shared: &Shared, index: usize, step: usize) -> Result<(), Stop> {
    let mut client = Client::connect(&shared.server)?;
    let mut stamp = 0_u64;
    while shared.goes_on() {
        stamp += 1;
        for number in (index..PAIRS).step_by(step) {
            let (a, b) = pair(number);
            let stamp = stamp.to_string();
            let answer = client.call(&[b"MSET", &a, stamp.as_bytes(), &b, stamp.as_bytes()])?;
            if answer != Answer::Simple(b"OK".to_vec()) {
                return Err(unexpected("MSET", &answer));
            }
            count(&shared.pairs_written);
        }
    }
    Ok(())
}
