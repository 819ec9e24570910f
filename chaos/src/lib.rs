//! What tries to prove Meridian wrong from outside, over its sockets.
//!
//! - `differential`: the same commands to a subject and to an oracle (Redis), reply by reply.
//! - `atomicity`: transfers between cores whose sum must never change.
//! - `durability`: `kill -9` under load, and what is there after the restart.
//! - `badinput`: hostile clients, while a well-behaved one is timed.
//! - `sim`: a whole node with simulated network, clocks and disk, from one seed.
//!
//! All but `sim` are clients: they know RESP and the documented behaviour of Redis, and nothing
//! of how Meridian works inside. Randomness is seeded (`rng.rs`), so that a run can be repeated.

pub mod atomicity;
pub mod badinput;
mod check;
mod client;
pub mod command_line;
pub mod differential;
pub mod durability;
mod rng;
pub mod sim;
mod spawned;
mod text;

pub use client::ClientError;
pub use spawned::{Spawned, redis_server_present};
