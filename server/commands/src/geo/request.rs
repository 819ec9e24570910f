//! What a search asks for: its words, in the five spellings that Redis has of it.

use protocol::{Args, Refusal, number};
use storage::Zset;

use crate::geo;
use crate::geo::cell::Point;
use crate::geo::shape::{Form, Shape};

/// How a search is spelt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// GEOSEARCH
    Search,
    /// GEOSEARCHSTORE
    SearchStore,
    /// GEORADIUS, or without STORE GEORADIUS_RO
    Radius { stores: bool },
    /// GEORADIUSBYMEMBER, or without STORE GEORADIUSBYMEMBER_RO
    ByMember { stores: bool },
}

/// The order of what is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Any,
    NearestFirst,
    FarthestFirst,
}

/// A search.
pub(super) struct Request<'a> {
    /// None only if there is no key to search in.
    pub(super) shape: Option<Shape>,
    pub(super) order: Order,
    /// At most so many members.
    pub(super) count: Option<usize>,
    /// The search ends as soon as there are so many.
    pub(super) any: bool,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_point: bool,
    /// Where the members go instead of into the reply.
    pub(super) store: Option<&'a [u8]>,
    /// Their scores there are distances.
    pub(super) store_distance: bool,
    centre: Option<Point>,
    /// A centre was named, though there may be no key to find it in.
    has_centre: Option<Centre>,
    form: Option<(Form, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Centre {
    Member,
    Point,
}

impl<'a> Request<'a> {
    /// Reads a request behind its keys. `zset` is what is searched, if it is there: a wrong member is told before a wrong option
    /// behind it.
    pub(super) fn parse(
        spelling: Spelling,
        zset: Option<&Zset>,
        store: Option<&'a [u8]>,
        mut args: Args<'a>,
    ) -> Result<Self, Refusal> {
        let mut request = Request {
            shape: None,
            order: Order::Any,
            count: None,
            any: false,
            with_distance: false,
            with_hash: false,
            with_point: false,
            store,
            store_distance: false,
            centre: None,
            has_centre: None,
            form: None,
        };
        match spelling {
            Spelling::Search | Spelling::SearchStore => {}
            Spelling::Radius { .. } => {
                request.centre = Some(geo::point(args.bytes()?, args.bytes()?)?);
                request.form = Some(circle(&mut args)?);
            }
            Spelling::ByMember { .. } => {
                let member = args.bytes()?;
                if let Some(zset) = zset {
                    request.centre = Some(place(zset, member)?);
                    request.form = Some(circle(&mut args)?);
                } else {
                    args = args.skip(2);
                }
            }
        }
        while args.left() > 0 {
            request.option(spelling, zset, &mut args)?;
        }
        request.check(spelling, args.word(0).unwrap_or_default())?;
        if let (Some(centre), Some((form, unit_m))) = (request.centre, request.form) {
            request.shape = Some(Shape {
                centre,
                form,
                unit_m,
            });
        }
        if request.count.is_some() && request.order == Order::Any && !request.any {
            request.order = Order::NearestFirst;
        }
        Ok(request)
    }

    /// Takes one option.
    fn option(
        &mut self,
        spelling: Spelling,
        zset: Option<&Zset>,
        args: &mut Args<'a>,
    ) -> Result<(), Refusal> {
        // How many words may still follow this one.
        let follow = args.left() - 1;
        if args.keyword("WITHDIST") {
            self.with_distance = true;
        } else if args.keyword("WITHHASH") {
            self.with_hash = true;
        } else if args.keyword("WITHCOORD") {
            self.with_point = true;
        } else if args.keyword("ANY") {
            self.any = true;
        } else if args.keyword("ASC") {
            self.order = Order::NearestFirst;
        } else if args.keyword("DESC") {
            self.order = Order::FarthestFirst;
        } else if follow >= 1 && args.keyword("COUNT") {
            let count = args.int()?;
            if count <= 0 {
                return Err(Refusal::Text("ERR COUNT must be > 0"));
            }
            self.count = Some(usize::try_from(count).unwrap_or(usize::MAX));
        } else {
            return match spelling {
                Spelling::Radius { stores } | Spelling::ByMember { stores } => {
                    self.store_option(stores && follow >= 1, args)
                }
                _ => self.search_option(spelling, zset, follow, args),
            };
        }
        Ok(())
    }

    fn store_option(&mut self, stores: bool, args: &mut Args<'a>) -> Result<(), Refusal> {
        self.store_distance = if stores && args.keyword("STORE") {
            false
        } else if stores && args.keyword("STOREDIST") {
            true
        } else {
            return Err(Refusal::Syntax);
        };
        self.store = Some(args.bytes()?);
        Ok(())
    }

    fn search_option(
        &mut self,
        spelling: Spelling,
        zset: Option<&Zset>,
        follow: usize,
        args: &mut Args<'a>,
    ) -> Result<(), Refusal> {
        let is_box = matches!(self.form, Some((Form::Box { .. }, _)));
        let is_circle = matches!(self.form, Some((Form::Circle { .. }, _)));
        if spelling == Spelling::SearchStore && args.keyword("STOREDIST") {
            self.store_distance = true;
        } else if follow >= 1
            && self.has_centre != Some(Centre::Point)
            && args.keyword("FROMMEMBER")
        {
            let member = args.bytes()?;
            self.has_centre = Some(Centre::Member);
            if let Some(zset) = zset {
                self.centre = Some(place(zset, member)?);
            }
        } else if follow >= 2
            && self.has_centre != Some(Centre::Member)
            && args.keyword("FROMLONLAT")
        {
            self.centre = Some(geo::point(args.bytes()?, args.bytes()?)?);
            self.has_centre = Some(Centre::Point);
        } else if follow >= 2 && !is_box && args.keyword("BYRADIUS") {
            self.form = Some(circle(args)?);
        } else if follow >= 3 && !is_circle && args.keyword("BYBOX") {
            let width = length(args.bytes()?, "ERR need numeric width")?;
            let height = length(args.bytes()?, "ERR need numeric height")?;
            if width < 0.0 || height < 0.0 {
                return Err(Refusal::Text("ERR height or width cannot be negative"));
            }
            self.form = Some((Form::Box { width, height }, geo::unit_m(args.bytes()?)?));
        } else {
            return Err(Refusal::Syntax);
        }
        Ok(())
    }

    /// Refuses options that contradict one another, and what is missing; `name` is as the client wrote it.
    fn check(&self, spelling: Spelling, name: &[u8]) -> Result<(), Refusal> {
        let searches = matches!(spelling, Spelling::Search | Spelling::SearchStore);
        let exactly = |what: &str| {
            let name = String::from_utf8_lossy(name);
            Err(Refusal::Owned(
                format!("ERR exactly one of {what} can be specified for {name}").into(),
            ))
        };
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_point) {
            return Err(Refusal::Text(if searches {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            }));
        }
        if searches && self.has_centre.is_none() {
            return exactly("FROMMEMBER or FROMLONLAT");
        }
        if searches && self.form.is_none() {
            return exactly("BYRADIUS and BYBOX");
        }
        if self.any && self.count.is_none() {
            return Err(Refusal::Text(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        Ok(())
    }
}

/// Where a member is.
fn place(zset: &Zset, member: &[u8]) -> Result<Point, Refusal> {
    let score = zset
        .score(member)
        .ok_or(Refusal::Text("ERR could not decode requested zset member"))?;
    Ok(Point::of_score(score))
}

fn length(word: &[u8], refusal: &'static str) -> Result<f64, Refusal> {
    number::parse_f64(word).ok_or(Refusal::Text(refusal))
}

/// A radius and its unit.
fn circle(args: &mut Args<'_>) -> Result<(Form, f64), Refusal> {
    let radius = length(args.bytes()?, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(Refusal::Text("ERR radius cannot be negative"));
    }
    Ok((Form::Circle { radius }, geo::unit_m(args.bytes()?)?))
}
