//! What is searched: a circle or a box around a point, and the cells that cover it.

use crate::geo::cell::{Cell, MAP, Point, STEP_MAX};

/// The earth as a ball, metres.
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;
/// Half the width of the web's map, metres.
const MAP_HALF_M: f64 = 20_037_726.37;
const DEGREE: f64 = core::f64::consts::PI / 180.0;

/// The form of what is searched, in the request's unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Form {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

/// What is searched.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Shape {
    pub(super) centre: Point,
    pub(super) form: Form,
    /// Metres of the request's unit.
    pub(super) unit_m: f64,
}

/// The metres between two points of equal longitude.
fn latitude_distance_m(from: f64, to: f64) -> f64 {
    EARTH_RADIUS_M * (to * DEGREE - from * DEGREE).abs()
}

/// The metres between two points, by the haversine formula.
pub(super) fn distance_m(from: Point, to: Point) -> f64 {
    let v = ((to.longitude * DEGREE - from.longitude * DEGREE) / 2.0).sin();
    if v == 0.0 {
        return latitude_distance_m(from.latitude, to.latitude);
    }
    let (from_r, to_r) = (from.latitude * DEGREE, to.latitude * DEGREE);
    let u = ((to_r - from_r) / 2.0).sin();
    let a = u * u + from_r.cos() * to_r.cos() * v * v;
    2.0 * EARTH_RADIUS_M * a.sqrt().asin()
}

impl Shape {
    /// The distance of a point from the centre, metres, if it is inside.
    pub(super) fn reach_m(&self, point: Point) -> Option<f64> {
        match self.form {
            Form::Circle { radius } => {
                let distance = distance_m(self.centre, point);
                // Not `<=`: between antipodes the formula may say NaN, which counts as inside.
                let outside = distance > radius * self.unit_m;
                (!outside).then_some(distance)
            }
            Form::Box { width, height } => {
                let (width, height) = (width * self.unit_m, height * self.unit_m);
                if latitude_distance_m(point.latitude, self.centre.latitude) > height / 2.0 {
                    return None;
                }
                let beside = Point {
                    latitude: point.latitude,
                    ..self.centre
                };
                if distance_m(point, beside) > width / 2.0 {
                    return None;
                }
                Some(distance_m(self.centre, point))
            }
        }
    }

    /// The cell of the centre and those around it, as far as they may hold members. The order is that of an unsorted reply.
    pub(super) fn cells(&self) -> [Option<Cell>; 9] {
        let bounds = self.bounds();
        let mut step = steps(self.radius_m(), self.centre.latitude);
        if step > 1 && !covers(Cell::of(self.centre, step, &MAP), &bounds) {
            step -= 1;
        }
        let cell = Cell::of(self.centre, step, &MAP);
        let area = cell.area();
        let useless = |east: i8, north: i8| {
            step >= 2
                && ((north < 0 && *area.latitude.start() < bounds.south)
                    || (north > 0 && *area.latitude.end() > bounds.north)
                    || (east < 0 && *area.longitude.start() < bounds.west)
                    || (east > 0 && *area.longitude.end() > bounds.east))
        };
        let around = [
            (0, 0),
            (0, 1),
            (0, -1),
            (1, 0),
            (-1, 0),
            (1, 1),
            (-1, 1),
            (1, -1),
            (-1, -1),
        ];
        around.map(|(east, north)| (!useless(east, north)).then(|| cell.beside(east, north)))
    }

    /// From the centre to the farthest point.
    fn radius_m(&self) -> f64 {
        let radius = match self.form {
            Form::Circle { radius } => radius,
            Form::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        };
        radius * self.unit_m
    }

    fn bounds(&self) -> Bounds {
        let Point {
            longitude,
            latitude,
        } = self.centre;
        let (width, height) = match self.form {
            Form::Circle { radius } => (radius, radius),
            Form::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let (width, height) = (self.unit_m * width, self.unit_m * height);
        let high = height / EARTH_RADIUS_M / DEGREE;
        // Meridians are closer to one another on the side of the nearer pole.
        let nearer_pole = if latitude < 0.0 {
            latitude - high
        } else {
            latitude + high
        };
        let wide = width / EARTH_RADIUS_M / (nearer_pole * DEGREE).cos() / DEGREE;
        Bounds {
            west: longitude - wide,
            east: longitude + wide,
            south: latitude - high,
            north: latitude + high,
        }
    }
}

/// What a shape lies within, degrees.
struct Bounds {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// Whether the cells around `cell` reach as far as the bounds.
fn covers(cell: Cell, bounds: &Bounds) -> bool {
    let reach = |east, north| cell.beside(east, north).area();
    let short = *reach(0, 1).latitude.end() < bounds.north
        || *reach(0, -1).latitude.start() > bounds.south
        || *reach(1, 0).longitude.end() < bounds.east
        || *reach(-1, 0).longitude.start() > bounds.west;
    !short
}

/// Halvings after which nine cells still cover a circle of this radius.
fn steps(radius_m: f64, latitude: f64) -> u32 {
    if radius_m == 0.0 {
        return STEP_MAX;
    }
    let (mut step, mut reach) = (1i32, radius_m);
    while reach < MAP_HALF_M {
        reach *= 2.0;
        step += 1;
    }
    step -= 2;
    // Cells are narrower towards the poles.
    if latitude.abs() > 66.0 {
        step -= 1;
        if latitude.abs() > 80.0 {
            step -= 1;
        }
    }
    step.clamp(1, STEP_MAX as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cells_cover_what_is_inside(
            (lon, lat) in (-150.0..150.0f64, -70.0..70.0f64),
            (east, north) in (-20.0..20.0f64, -10.0..10.0f64),
            (first, second) in (0.0..3000.0f64, 0.0..3000.0f64), is_box in any::<bool>(),
        ) {
            let centre = Point { longitude: lon, latitude: lat };
            let form = if is_box {
                Form::Box { width: first, height: second }
            } else {
                Form::Circle { radius: first }
            };
            let shape = Shape { centre, form, unit_m: 1000.0 };
            let point = Point { longitude: lon + east, latitude: lat + north };
            let score = point.score();
            if shape.reach_m(Point::of_score(score)).is_some() {
                let holds = |cell: &Cell| {
                    let (from, to) = cell.scores();
                    (from..to).contains(&score)
                };
                prop_assert!(shape.cells().iter().flatten().any(holds));
            }
        }
    }

    #[test]
    fn steps_end_for_any_radius() {
        for radius in [0.0, 1e-300, 0.1, 1e5, 1e300, f64::INFINITY] {
            assert!((1..=STEP_MAX).contains(&steps(radius, 81.0)), "{radius}");
        }
    }
}
