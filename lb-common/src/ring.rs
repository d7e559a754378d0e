//! Rings: which backend a slot belongs to, and which would follow it.
//!
//! The kernel only reads slots ([`crate::abi::Ids`]). How a ring comes about (weighted rendezvous) is behind the feature `build`.

#[cfg(any(test, feature = "build"))]
mod build;
#[cfg(any(test, feature = "build"))]
mod score;

#[cfg(any(test, feature = "build"))]
pub use build::{Member, Ring, WHOLE, identity};

#[cfg(test)]
mod tests {
    use crate::abi::Ids;

    #[test]
    fn an_element_gives_back_its_slots() {
        let ids = [1, 0, 0xfffe, 0xffff];
        let element = Ids::new(ids);
        for (index, id) in (8..).zip(ids) {
            assert_eq!(element.of(index), id);
        }
    }
}
