//! Positions on earth: sorted sets whose scores are cells of the map.

mod cell;
mod geoadd;
mod geopos;
mod geosearch;
mod request;
mod shape;

use protocol::{Refusal, Reply, Resp, number};

use crate::Command;
use crate::geo::cell::{Point, signed};

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    geoadd::COMMANDS,
    geopos::COMMANDS,
    geosearch::COMMANDS,
    geosearch::OLDER,
];

/// Two words as a position.
///
/// # Errors
/// `Refusal::NotFloat`, or one that tells a position off the map.
fn point(longitude: &[u8], latitude: &[u8]) -> Result<Point, Refusal> {
    let float = |word| number::parse_f64(word).ok_or(Refusal::NotFloat);
    let point = Point {
        longitude: float(longitude)?,
        latitude: float(latitude)?,
    };
    if point.is_on_map() {
        return Ok(point);
    }
    let Point {
        longitude,
        latitude,
    } = point;
    let text = format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}");
    Err(Refusal::Owned(text.into()))
}

/// The metres of a unit.
///
/// # Errors
/// A refusal that names the units.
fn unit_m(word: &[u8]) -> Result<f64, Refusal> {
    let units = [
        (&b"m"[..], 1.0),
        (b"km", 1000.0),
        (b"ft", 0.3048),
        (b"mi", 1609.34),
    ];
    let found = units
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name));
    found.map(|(_, metres)| *metres).ok_or(Refusal::Text(
        "ERR unsupported unit provided. please use M, KM, FT, MI",
    ))
}

/// A distance with four decimals.
fn reply_distance(reply: &mut Reply<'_>, distance: f64) {
    let tenths = signed((distance * 10_000.0).round_ties_even());
    let sign = if tenths < 0 { "-" } else { "" };
    let size = tenths.unsigned_abs();
    reply.bulk(format!("{sign}{}.{:04}", size / 10_000, size % 10_000).as_bytes());
}

/// A position, with as many decimals as a double has up to 17.
fn reply_point(reply: &mut Reply<'_>, point: Point) {
    reply.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        match reply.resp() {
            Resp::V2 => reply.bulk(text.as_bytes()),
            Resp::V3 => reply.raw(format!(",{text}\r\n").as_bytes()),
        }
    }
}
