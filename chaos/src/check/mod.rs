//! Judges: what must hold of a history of calls, whoever has made it. They share no code with what they judge.

pub(crate) mod linear;
pub(crate) mod lossy;
pub(crate) mod values;
