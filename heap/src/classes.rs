//! Hot path. The sizes that small blocks come in.
//!
//! Steps of 8 bytes to 256, of 16 to 512, of 32 to 1024: rounding costs 4 bytes on average where most blocks are, and at most an eighth of
//! larger ones. Every multiple of 64 is a class, so that arrays of cache lines fit exactly.

/// The largest small block, bytes.
pub const SMALL_BYTES_MAX: usize = 1024;
/// The finest step between classes, and the alignment of all blocks, bytes.
pub(crate) const STEP: usize = 8;
/// Number of classes.
pub(crate) const CLASSES: usize = 64;

/// Bytes of a block of each class.
pub(crate) static BYTES: [u16; CLASSES] = {
    let mut bytes = [0; CLASSES];
    let mut class = 0;
    let mut size = 0;
    while class < CLASSES {
        size += if size < 256 {
            8
        } else if size < 512 {
            16
        } else {
            32
        };
        bytes[class] = size;
        class += 1;
    }
    bytes
};

/// The class of each number of steps.
static OF_STEPS: [u8; SMALL_BYTES_MAX / STEP + 1] = {
    let mut of = [0; SMALL_BYTES_MAX / STEP + 1];
    let mut steps = 1;
    let mut class = 0;
    while steps < of.len() {
        if steps * STEP > BYTES[class as usize] as usize {
            class += 1;
        }
        of[steps] = class;
        steps += 1;
    }
    of
};

/// The class of a block of `size` bytes, 1 to [`SMALL_BYTES_MAX`].
#[inline(always)]
pub(crate) fn class_of(size: usize) -> usize {
    let steps = size.wrapping_add(STEP - 1) / STEP;
    // The mask changes nothing for a size that is allowed, and saves a check.
    usize::from(OF_STEPS[steps.min(SMALL_BYTES_MAX / STEP)]) % CLASSES
}

/// Bytes that a block of `size` bytes, 1 to [`SMALL_BYTES_MAX`], really takes.
#[inline]
pub fn good_size(size: usize) -> usize {
    usize::from(BYTES[class_of(size)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_that_fits() {
        assert_eq!(BYTES[CLASSES - 1] as usize, SMALL_BYTES_MAX);
        for size in 1..=SMALL_BYTES_MAX {
            let class = class_of(size);
            assert!(good_size(size) >= size);
            assert!(class == 0 || usize::from(BYTES[class - 1]) < size);
        }
        assert_eq!(
            [1, 8, 9, 57, 257, 513].map(good_size),
            [8, 8, 16, 64, 272, 544]
        );
        assert!((1..=16).all(|lines| good_size(lines * 64) == lines * 64));
    }
}
