//! The expiry options that SET, GETEX, HGETEX and HSETEX share: EX, PX, EXAT, PXAT.

use protocol::{Args, Refusal};

/// Unit and origin of an expire time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Ms,
    /// Unix seconds.
    AtSeconds,
    /// Unix milliseconds.
    AtMs,
}

impl Unit {
    /// Takes one of the four keywords, if it is next.
    pub(crate) fn keyword(args: &mut Args<'_>) -> Option<Unit> {
        let known = [
            ("EX", Unit::Seconds),
            ("PX", Unit::Ms),
            ("EXAT", Unit::AtSeconds),
            ("PXAT", Unit::AtMs),
        ];
        known
            .into_iter()
            .find(|(word, _)| args.keyword(word))
            .map(|(_, unit)| unit)
    }

    /// The deadline, unix ms, that `time` means.
    ///
    /// # Errors
    /// `Refusal::NotInteger`, or `Refusal::ExpireTime` for one that is not positive or beyond 64 bits.
    pub(super) fn deadline(
        self,
        time: &[u8],
        now_ms: u64,
        command: &'static str,
    ) -> Result<u64, Refusal> {
        let time = protocol::number::parse_i64(time).ok_or(Refusal::NotInteger)?;
        let refused = Refusal::ExpireTime(command);
        if time <= 0 {
            return Err(refused);
        }
        let factor = if matches!(self, Unit::Seconds | Unit::AtSeconds) {
            1000
        } else {
            1
        };
        let origin = if matches!(self, Unit::Seconds | Unit::Ms) {
            now_ms.cast_signed()
        } else {
            0
        };
        let at_ms = time
            .checked_mul(factor)
            .and_then(|ms| ms.checked_add(origin));
        at_ms.map(i64::cast_unsigned).ok_or(refused)
    }
}

/// A time as the client gave it, not looked at yet: Redis does so after all options are known.
#[derive(Clone, Copy)]
pub(super) struct Time<'a> {
    unit: Unit,
    word: &'a [u8],
}

impl<'a> Time<'a> {
    /// Takes `EX seconds` or its kin. An option may come again, and the last one counts; two
    /// different ones may not.
    ///
    /// # Errors
    /// `Refusal::Syntax` when it is something else, or another option than `before`.
    pub(super) fn take(args: &mut Args<'a>, before: Option<Time<'a>>) -> Result<Time<'a>, Refusal> {
        let unit = Unit::keyword(args).ok_or(Refusal::Syntax)?;
        if before.is_some_and(|before| before.unit != unit) {
            return Err(Refusal::Syntax);
        }
        let word = args.bytes()?;
        Ok(Time { unit, word })
    }

    /// As [`Unit::deadline`].
    pub(super) fn deadline(self, now_ms: u64, command: &'static str) -> Result<u64, Refusal> {
        self.unit.deadline(self.word, now_ms, command)
    }
}
