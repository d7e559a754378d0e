//! What the judges are given: one or two frames under a setup; and the same as bytes, for libFuzzer and its corpus.

use super::setups::VARIATIONS;

/// Frames under a setup, from a table of fragments that is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Number of the variation.
    pub variation: usize,
    /// In the order in which they come.
    pub frames: Vec<Vec<u8>>,
}

/// Set in the first byte: two bytes with the length of the first of two frames follow.
const TWO: u8 = 0x80;

impl Input {
    /// One frame.
    pub fn one(variation: usize, frame: Vec<u8>) -> Self {
        Input { variation, frames: vec![frame] }
    }

    /// From bytes, of which all mean something.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let variation = usize::from(first & !TWO) % VARIATIONS.len();
        match rest {
            [low, high, rest @ ..] if first & TWO != 0 => {
                let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
                let (one, other) = rest.split_at(length);
                Input { variation, frames: vec![one.to_vec(), other.to_vec()] }
            }
            _ => Input::one(variation, rest.to_vec()),
        }
    }

    /// The inverse; of more than two frames the last two are left.
    pub fn to_bytes(&self) -> Vec<u8> {
        let variation = self.variation as u8;
        match &self.frames[..] {
            [.., one, other] => {
                let length = (one.len() as u16).to_le_bytes();
                [&[variation | TWO][..], &length, one, other].concat()
            }
            frames => [&[variation][..], &frames.concat()].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        for frames in [vec![vec![]], vec![vec![1, 2, 3]], vec![vec![1; 300], vec![2; 3]], vec![vec![], vec![7]]] {
            let input = Input { variation: 3, frames };
            assert_eq!(Input::from_bytes(&input.to_bytes()), input);
        }
        assert_eq!(Input::from_bytes(&[]), Input::one(0, Vec::new()));
        assert_eq!(Input::from_bytes(&[TWO, 1]), Input::one(0, vec![1]));
    }
}
