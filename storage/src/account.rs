//! What memory really costs: sizes rounded as the allocator rounds them.

/// Bytes that an allocation of `bytes` really takes: steps of 8 bytes to 256, of 16 to 512, of 32 to 1024 (`heap`), and then
/// mimalloc's size classes (four steps per doubling). Checked against both in tests/classes.rs.
#[inline]
pub fn class_size(bytes: usize) -> usize {
    if bytes <= 256 {
        return (bytes + 7) & !7;
    }
    let step = if bytes <= 512 {
        16
    } else if bytes <= 1024 {
        32
    } else {
        // Four classes between powers of two: the step is an eighth of the next power's half.
        let top = usize::BITS - 1 - (bytes - 1).leading_zeros();
        1usize << (top - 2)
    };
    (bytes + step - 1) & !(step - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_never_round_down_and_waste_at_most_a_quarter() {
        for bytes in 1..100_000 {
            let class = class_size(bytes);
            assert!(class >= bytes);
            assert!(
                class < bytes + 8
                    || class * 16 <= bytes * 17
                    || bytes > 1024 && class * 4 <= bytes * 5,
                "{bytes} -> {class}"
            );
            assert_eq!(class_size(class), class);
        }
    }
}
