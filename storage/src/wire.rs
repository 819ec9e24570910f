//! The parts that records are made of, written and read: see the encoding at the head of `effect.rs`.

use crate::Ttl;
use crate::effect::Corrupt;
use crate::value::Side;
use crate::value::stream::StreamId;

/// Appends parts of a record.
pub(crate) struct Writer<'o> {
    pub(crate) out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    pub(crate) fn head(&mut self, kind: u8, db: u8, key: &[u8]) {
        self.out.push(kind);
        self.out.push(db);
        self.bytes(key);
    }

    pub(crate) fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.out.push(n as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// Both parts of an id, as numbers.
    pub(crate) fn id(&mut self, id: StreamId) {
        self.number(id.ms);
        self.number(id.seq);
    }

    /// 0, or 1 and the number.
    pub(crate) fn optional(&mut self, n: Option<u64>) {
        self.out.push(n.is_some().into());
        if let Some(n) = n {
            self.number(n);
        }
    }

    pub(crate) fn side(&mut self, side: Side) {
        self.out.push(match side {
            Side::Left => 0,
            Side::Right => 1,
        });
    }

    pub(crate) fn ttl(&mut self, ttl: Ttl) {
        match ttl {
            Ttl::Clear => self.out.push(0),
            Ttl::Keep => self.out.push(1),
            Ttl::At(at_ms) => {
                self.out.push(2);
                self.out.extend_from_slice(&at_ms.to_le_bytes());
            }
        }
    }
}

/// Takes parts off the front of a record; bytes that are none are [`Corrupt`].
pub(crate) struct Reader<'a> {
    pub(crate) input: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.input.split_first().ok_or(Corrupt)?;
        self.input = rest;
        Ok(first)
    }

    pub(crate) fn word(&mut self) -> Result<u64, Corrupt> {
        let (word, rest) = self.input.split_first_chunk::<8>().ok_or(Corrupt)?;
        self.input = rest;
        Ok(u64::from_le_bytes(*word))
    }

    pub(crate) fn number(&mut self) -> Result<u64, Corrupt> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Corrupt);
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Corrupt)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let len = usize::try_from(self.number()?).map_err(|_| Corrupt)?;
        let (bytes, rest) = self.input.split_at_checked(len).ok_or(Corrupt)?;
        self.input = rest;
        Ok(bytes)
    }

    pub(crate) fn id(&mut self) -> Result<StreamId, Corrupt> {
        Ok(StreamId::new(self.number()?, self.number()?))
    }

    pub(crate) fn optional(&mut self) -> Result<Option<u64>, Corrupt> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.number().map(Some),
            _ => Err(Corrupt),
        }
    }

    pub(crate) fn side(&mut self) -> Result<Side, Corrupt> {
        match self.byte()? {
            0 => Ok(Side::Left),
            1 => Ok(Side::Right),
            _ => Err(Corrupt),
        }
    }

    pub(crate) fn score(&mut self) -> Result<f64, Corrupt> {
        let score = f64::from_bits(self.word()?);
        if score.is_nan() {
            Err(Corrupt)
        } else {
            Ok(score)
        }
    }

    pub(crate) fn ttl(&mut self) -> Result<Ttl, Corrupt> {
        match self.byte()? {
            0 => Ok(Ttl::Clear),
            1 => Ok(Ttl::Keep),
            2 => Ok(Ttl::At(self.word()?)),
            _ => Err(Corrupt),
        }
    }
}
