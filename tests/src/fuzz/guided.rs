//! What libFuzzer runs (`tests/guided`): the reference and the host on its inputs, and a mutator that knows what frames are
//! made of. libFuzzer counts which branches an input reaches and keeps those that reach new ones.

use fastrand::Rng;

use super::{
    corpus, generate,
    input::Input,
    judges::Judges,
    mutate,
    report::Finding,
    setups::{Names, VARIATIONS},
    shrink::shrink,
};

const TRIES: usize = 20_000;

/// Judges of every setup.
pub struct Guided {
    judges: Vec<Judges>,
    names: Vec<Names>,
    bases: Vec<Input>,
}

impl Default for Guided {
    fn default() -> Self {
        let judges: Vec<_> = (0..VARIATIONS.len()).map(Judges::on_host).collect();
        let names = judges.iter().map(|judges| Names::new(judges.reference.setup())).collect();
        Guided { judges, names, bases: [corpus::of_cases(), corpus::checked_in()].concat() }
    }
}

impl Guided {
    /// Judges an input.
    pub fn run(&mut self, bytes: &[u8]) -> Result<(), Box<Finding>> {
        let input = Input::from_bytes(bytes);
        let judges = &mut self.judges[input.variation];
        if judges.disagreement(&input.frames).is_none() {
            return Ok(());
        }
        let small = shrink(&input.frames, TRIES, |frames| judges.disagreement(frames).is_some());
        let disagreement = judges.disagreement(&small).expect("what was made small still fails");
        Err(Box::new(Finding::new(judges, small, disagreement)))
    }

    /// Changes an input into another of at most `most` bytes.
    pub fn mutate(&self, bytes: &[u8], most: usize, seed: u32) -> Vec<u8> {
        let mut rng = Rng::with_seed(seed.into());
        let mut input = Input::from_bytes(bytes);
        match rng.u8(..16) {
            0 => input.variation = rng.usize(..VARIATIONS.len()),
            1 => input.frames[0] = generate::frame(&mut rng, &self.names[input.variation]),
            2 if input.frames.len() == 1 => {
                // The same again: the pieces of a datagram differ in little.
                input.frames.push(input.frames[0].clone());
            }
            3 if input.frames.len() > 1 => drop(input.frames.remove(rng.usize(..input.frames.len()))),
            _ => {}
        }
        let number = rng.usize(..input.frames.len());
        let other = &self.bases[rng.usize(..self.bases.len())].frames[0];
        mutate::damage(&mut rng, &self.names[input.variation], &mut input.frames[number], other);
        let mut bytes = input.to_bytes();
        bytes.truncate(most);
        bytes
    }
}
