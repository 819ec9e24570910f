//! Those who look whether the sum and the pairs are whole.

use protocol::answer::Answer;

use super::{ACCOUNTS, PAIRS, SUM, Shared, Stop, account, count, number, pair, unexpected};
use crate::client::Client;
use crate::rng::Rng;

/// Reads keys in one atomic step: by MGET, or by GETs in a transaction.
fn read(client: &mut Client, keys: &[Vec<u8>], by_mget: bool) -> Result<Vec<i64>, Stop> {
    let answer = if by_mget {
        let mut request = vec![b"MGET".to_vec()];
        request.extend(keys.iter().cloned());
        client.send([request.as_slice()])?;
        client.receive()?
    } else {
        let gets = keys.iter().map(|key| vec![b"GET".to_vec(), key.clone()]);
        let mut requests = vec![vec![b"MULTI".to_vec()]];
        requests.extend(gets);
        requests.push(vec![b"EXEC".to_vec()]);
        client.send(requests.iter().map(Vec::as_slice))?;
        let (mut answers, lost) = client.receive_all(requests.len());
        if let Some(error) = lost {
            return Err(error.into());
        }
        answers.pop().unwrap_or(Answer::Null)
    };
    let how = if by_mget { "MGET" } else { "EXEC of GETs" };
    match &answer {
        Answer::Array(values) if values.len() == keys.len() => {
            let numbers: Option<Vec<i64>> = values.iter().map(number).collect();
            numbers.ok_or_else(|| unexpected(how, &answer))
        }
        other => Err(unexpected(how, other)),
    }
}

/// All accounts together must always hold the same.
pub(super) fn sums(shared: &Shared, mut rng: Rng) -> Result<(), Stop> {
    let mut client = Client::connect(&shared.server)?;
    let mut keys: Vec<_> = (0..ACCOUNTS).map(account).collect();
    while shared.goes_on() {
        rng.shuffle(&mut keys);
        let by_mget = rng.percent(50);
        let balances = read(&mut client, &keys, by_mget)?;
        let sum: i64 = balances.iter().sum();
        if sum != SUM {
            let how = if by_mget { "MGET" } else { "MULTI GET.. EXEC" };
            let names: Vec<_> = keys
                .iter()
                .map(|key| String::from_utf8_lossy(key))
                .zip(&balances)
                .map(|(key, balance)| format!("{key}={balance}"))
                .collect();
            return Err(Stop::Violation(format!(
                "{how} saw a sum of {sum} instead of {SUM}: half of a transfer. {}",
                names.join(" ")
            )));
        }
        count(&shared.sums_read);
    }
    Ok(())
}

/// Both stamps of a pair are equal, and never older than before.
pub(super) fn pairs(shared: &Shared, mut rng: Rng) -> Result<(), Stop> {
    let mut client = Client::connect(&shared.server)?;
    let mut newest = [0; PAIRS];
    while shared.goes_on() {
        let number = rng.below(PAIRS);
        let (a, b) = pair(number);
        let by_mget = rng.percent(50);
        let keys = if rng.percent(50) { [a, b] } else { [b, a] };
        let stamps = read(&mut client, &keys, by_mget)?;
        let [first, second] = stamps[..] else {
            continue;
        };
        let how = if by_mget {
            "MGET"
        } else {
            "MULTI GET GET EXEC"
        };
        if first != second {
            return Err(Stop::Violation(format!(
                "{how} saw pair {number} torn: stamps {first} and {second}, written by one MSET each"
            )));
        }
        let before = newest.get_mut(number);
        if let Some(before) = before {
            if first < *before {
                return Err(Stop::Violation(format!(
                    "{how} saw pair {number} go back in time: stamp {first} after {before}"
                )));
            }
            *before = first;
        }
        count(&shared.pairs_read);
    }
    Ok(())
}
