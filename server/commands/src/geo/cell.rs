//! Cells of the map: the 52 bits that a sorted set keeps as a member's score.
//!
//! ```text
//! longitude -180..180, latitude -85.05112878..85.05112878, each cut in half `step` times;
//! bits: longitude, latitude, longitude... from the highest, 2 * step of them
//! ```
//! The order of the arithmetic is Redis's: positions and distances are compared to the last digit.

use core::ops::RangeInclusive;

/// A position, degrees.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Point {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

/// The part of the world that cells divide.
pub(super) struct World {
    longitude_max: f64,
    latitude_max: f64,
}

/// The web's map: there are no poles.
pub(super) const MAP: World = World {
    longitude_max: 180.0,
    latitude_max: 85.051_128_78,
};

/// That of the geohash texts.
pub(super) const GLOBE: World = World {
    longitude_max: 180.0,
    latitude_max: 90.0,
};

/// Halvings of a member's cell.
pub(super) const STEP_MAX: u32 = 26;

/// What a cell covers, degrees.
pub(super) struct Area {
    pub(super) longitude: RangeInclusive<f64>,
    pub(super) latitude: RangeInclusive<f64>,
}

/// A cell: its bits are the lowest `2 * step`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cell {
    pub(super) bits: u64,
    pub(super) step: u32,
}

impl Point {
    /// Whether it is on the map.
    pub(super) fn is_on_map(self) -> bool {
        self.longitude.abs() <= MAP.longitude_max && self.latitude.abs() <= MAP.latitude_max
    }

    /// The middle of the cell that a score names. Any number is a score: what it names is brought onto the map.
    pub(super) fn of_score(score: f64) -> Point {
        let cell = Cell {
            bits: unsigned(score),
            step: STEP_MAX,
        };
        let area = cell.area();
        let middle = |range: &RangeInclusive<f64>, max: f64| {
            ((range.start() + range.end()) / 2.0).clamp(-max, max)
        };
        Point {
            longitude: middle(&area.longitude, MAP.longitude_max),
            latitude: middle(&area.latitude, MAP.latitude_max),
        }
    }

    /// The score of its cell.
    pub(super) fn score(self) -> f64 {
        Cell::of(self, STEP_MAX, &MAP).bits as f64
    }

    /// The 11 letters of its standard geohash; 52 bits make ten of them, and the last is always `0`.
    pub(super) fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::of(self, STEP_MAX, &GLOBE).bits;
        core::array::from_fn(|at| match at {
            10 => b'0',
            _ => LETTERS[(bits >> (52 - (at + 1) * 5)) as usize % 32],
        })
    }
}

impl Cell {
    /// The cell of a point that lies in `world`.
    pub(super) fn of(point: Point, step: u32, world: &World) -> Cell {
        let side = |at: f64, max: f64| {
            let share = (at + max) / (max + max);
            (share * (1u64 << step) as f64) as u32
        };
        let latitude = side(point.latitude, world.latitude_max);
        let longitude = side(point.longitude, world.longitude_max);
        Cell {
            bits: spread(latitude) | spread(longitude) << 1,
            step,
        }
    }

    /// What it covers.
    pub(super) fn area(self) -> Area {
        let range = |side: u32, max: f64| {
            let at = |side: f64| -max + (side / (1u64 << self.step) as f64) * (max + max);
            at(f64::from(side))..=at(f64::from(side.wrapping_add(1)))
        };
        Area {
            longitude: range(gather(self.bits >> 1), MAP.longitude_max),
            latitude: range(gather(self.bits), MAP.latitude_max),
        }
    }

    /// The scores of the members in it: from the first on, below the second.
    pub(super) fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEP_MAX - self.step);
        let at = |bits: u64| (bits << shift) as f64;
        (at(self.bits), at(self.bits.wrapping_add(1)))
    }

    /// The cell beside it: -1, 0 or 1 to the east and to the north; beyond the border is the other side.
    pub(super) fn beside(self, east: i8, north: i8) -> Cell {
        const LATITUDE: u64 = 0x5555_5555_5555_5555;
        let unused = 64 - self.step * 2;
        let longitude = LATITUDE << 1;
        let x = move_axis(self.bits & longitude, east, longitude, LATITUDE, unused);
        let y = move_axis(self.bits & LATITUDE, north, LATITUDE, longitude, unused);
        Cell {
            bits: x | y,
            step: self.step,
        }
    }
}

/// The bits of one axis moved by one; the bits of the other carry over the gaps.
fn move_axis(bits: u64, by: i8, axis: u64, other: u64, unused: u32) -> u64 {
    let gaps = other >> unused;
    let moved = match by {
        0 => return bits,
        1 => bits.wrapping_add(gaps + 1),
        _ => (bits | gaps).wrapping_sub(gaps + 1),
    };
    moved & axis >> unused
}

/// The bits at the even places of a word.
fn spread(half: u32) -> u64 {
    let mut bits = u64::from(half);
    for (shift, mask) in STEPS.iter().rev() {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// The bits of the even places of a word, together.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (at, (shift, _)) in STEPS.iter().enumerate() {
        let mask = STEPS.get(at + 1).map_or(0xffff_ffff, |(_, mask)| *mask);
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// Shifts, and which bits are in their places before each when bits come together.
const STEPS: [(u32, u64); 5] = [
    (1, 0x5555_5555_5555_5555),
    (2, 0x3333_3333_3333_3333),
    (4, 0x0f0f_0f0f_0f0f_0f0f),
    (8, 0x00ff_00ff_00ff_00ff),
    (16, 0x0000_ffff_0000_ffff),
];

/// A double as the signed integer that an x86 processor makes of it: one out of range is the least.
pub(super) fn signed(number: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// The same for an unsigned integer, in two halves.
fn unsigned(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if number >= HALF {
        signed(number - HALF).cast_unsigned() ^ 1 << 63
    } else {
        signed(number).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(longitude: f64, latitude: f64) -> Point {
        Point {
            longitude,
            latitude,
        }
    }

    #[test]
    fn palermo_and_catania() {
        let palermo = point(13.361389, 38.115556);
        assert_eq!(palermo.score(), 3479099956230698.0);
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        let catania = Point::of_score(3479447370796909.0);
        assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
        assert_eq!(catania.longitude, 15.087267458438873);
        assert_eq!(catania.latitude, 37.50266842333162);
    }

    #[test]
    fn any_score_is_on_the_map() {
        for score in [
            0.0,
            -1.0,
            1e300,
            -1e300,
            f64::INFINITY,
            -f64::INFINITY,
            1.8e19,
            0.5,
        ] {
            assert!(Point::of_score(score).is_on_map(), "{score}");
        }
        assert!(!point(180.1, 0.0).is_on_map() && !point(0.0, -86.0).is_on_map());
        assert_eq!((unsigned(-1.0), unsigned(f64::INFINITY)), (u64::MAX, 0));
    }

    proptest! {
        #[test]
        fn bits_come_together_again(half in any::<u32>(), other in any::<u32>()) {
            prop_assert_eq!(gather(spread(half) | spread(other) << 1), half);
            prop_assert_eq!(gather((spread(half) | spread(other) << 1) >> 1), other);
        }

        #[test]
        fn neighbours_are_neighbours(
            longitude in -179.9..179.9f64, latitude in -85.0..85.0f64, step in 1u32..=26,
            east in -1i8..=1, north in -1i8..=1,
        ) {
            let cell = Cell::of(point(longitude, latitude), step, &MAP);
            let area = cell.area();
            prop_assert!(area.longitude.contains(&longitude) && area.latitude.contains(&latitude));
            let other = cell.beside(east, north);
            prop_assert_eq!(other.beside(-east, -north), cell);
            let sides = 1u32 << step;
            let moved = |side: u32, by: i8| side.wrapping_add_signed(i32::from(by)) % sides;
            prop_assert_eq!(gather(other.bits), moved(gather(cell.bits), north));
            prop_assert_eq!(gather(other.bits >> 1), moved(gather(cell.bits >> 1), east));
        }
    }
}
