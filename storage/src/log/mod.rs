//! The log's format: frames in segments, written and read as bytes. No files here, and no clock.
//!
//! ```text
//! segment = head (32 bytes), frame, frame, …          segment.rs
//! frame   = head (44 bytes), payload                  record.rs
//!           payload = the effects of one turn of one core, or all libraries of functions
//! ```
//! Frames are numbered by one sequence over all segments, without a gap. A segment may repeat the last frames of the one
//! before it, when nobody knows whether they had reached the disk there.

mod record;
mod segment;

pub use record::{FRAME_HEAD_BYTES, FrameHead, FrameKind, payload_sum};
pub use segment::{
    Bad, Behind, Fault, Frame, SEGMENT_HEAD_BYTES, Scan, SegmentHead, Step, look_behind,
};
