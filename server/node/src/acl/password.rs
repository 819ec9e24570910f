//! Passwords: only their SHA-256 is kept, in lower-case hexadecimal digits as Redis's files have it.

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

/// Digits of a hash.
const DIGITS: usize = 64;
/// Most bits that ACL GENPASS makes.
pub const GENERATED_BITS_MAX: i64 = 4096;

/// The hash of one password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash([u8; DIGITS]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Hash {
    /// The hash of a password in the clear.
    pub fn of(password: &[u8]) -> Hash {
        let mut digits = [0; DIGITS];
        let hash = digest::digest(&digest::SHA256, password);
        write_hex(hash.as_ref(), &mut digits);
        Hash(digits)
    }

    /// A hash as a file or a rule spells it; None unless these are 64 lower-case hexadecimal digits.
    pub fn from_digits(digits: &[u8]) -> Option<Hash> {
        let digits: [u8; DIGITS] = digits.try_into().ok()?;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.iter().all(is_digit).then_some(Hash(digits))
    }

    /// Its digits.
    pub fn digits(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same; takes the same time wherever they differ.
    pub fn is_same(&self, other: &Hash) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

/// A new password of so many bits, four to a digit; None when the system has no randomness to give.
///
/// It comes from the system and not from a core's generator: it must not follow from anything a client has seen.
pub fn generate(bits: i64) -> Option<Vec<u8>> {
    let digits = usize::try_from((bits.clamp(1, GENERATED_BITS_MAX) + 3) / 4).ok()?;
    let mut random = vec![0; digits.div_ceil(2)];
    SystemRandom::new().fill(&mut random).ok()?;
    let mut password = vec![0; random.len() * 2];
    write_hex(&random, &mut password);
    password.truncate(digits);
    Some(password)
}

fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_redis() {
        let foo = b"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        assert_eq!(Hash::of(b"foo").digits(), foo);
        let read = Hash::from_digits(foo).unwrap();
        assert!(read.is_same(&Hash::of(b"foo")) && !read.is_same(&Hash::of(b"fop")));
        for bad in [&foo[1..], b"", &[b'A'; 64], &[b'g'; 64]] {
            assert!(Hash::from_digits(bad).is_none());
        }
    }

    #[test]
    fn generated_passwords_have_their_length_and_differ() {
        for (bits, digits) in [(256, 64), (5, 2), (1, 1), (4096, 1024)] {
            let password = generate(bits).unwrap();
            assert_eq!(password.len(), digits);
            assert!(bits < 256 || Some(password) != generate(bits));
        }
    }
}
