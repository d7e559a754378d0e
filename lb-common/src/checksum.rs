//! The Internet checksum (RFC 1071) over words as they were loaded: the one's complement sum does not care for byte
//! order, as long as nobody swaps.

use crate::wire::Be16;

/// A running sum of 16-bit words. Adding 32-bit words adds both halves.
#[derive(Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds one 16-bit word.
    #[inline(always)]
    pub fn word(self, word: u16) -> Self {
        Sum(self.0 + word as u64)
    }

    /// Adds two 16-bit words, loaded as one.
    #[inline(always)]
    pub fn pair(self, pair: u32) -> Self {
        Sum(self.0 + pair as u64)
    }

    /// Adds four 16-bit words, loaded as one.
    #[inline(always)]
    pub fn four(self, four: u64) -> Self {
        self.pair(four as u32).pair((four >> 32) as u32)
    }

    /// Adds an IPv6 address.
    #[inline(always)]
    pub fn address(self, words: [u32; 4]) -> Self {
        self.pair(words[0]).pair(words[1]).pair(words[2]).pair(words[3])
    }

    /// The checksum: folded and inverted. Holds for up to 65,536 words.
    #[inline(always)]
    pub fn finish(self) -> Be16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        Be16::from_raw(!(sum as u16))
    }
}

/// A checksum after one of the words that it covers was replaced (RFC 1624, equation 3). Words that are not all zero
/// must remain: of nothing but zeros the checksum is 0xffff, and this gives 0.
#[inline(always)]
pub fn replace(checksum: Be16, before: u16, after: u16) -> Be16 {
    Sum::default().word(!checksum.raw()).word(!before).word(after).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_are_folded() {
        assert_eq!(Sum::default().pair(u32::MAX).pair(u32::MAX).finish().raw(), 0);
        assert_eq!(Sum::default().finish().raw(), 0xffff);
        // Folding 0xffff_ffff + 0x1_0001 carries twice.
        assert_eq!(Sum::default().pair(0xffff_ffff).pair(0x0001_0001).finish().raw(), !0x0002);
    }

    #[test]
    fn rfc_1071_example() {
        let sum = [0x0001u16, 0xf203, 0xf4f5, 0xf6f7].iter().fold(Sum::default(), |sum, word| sum.word(*word));
        assert_eq!(sum.finish().raw(), !0xddf2);
    }
}
