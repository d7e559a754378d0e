//! The question to ethtool's generic netlink, and what its answer says.

use std::io;

use anyhow::{Context, Result, anyhow, bail};

use super::Offloads;
use crate::netlink::{GenericMessage, Requests};

// Numbers of linux/genetlink.h and linux/ethtool_netlink.h.
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FEATURES_GET: u8 = 11;
const FEATURES_HEADER: u16 = 1;
const HEADER_DEVICE_INDEX: u16 = 1;
pub(super) const FEATURES_ACTIVE: u16 = 4;
pub(super) const BITSET_WITHOUT_MASK: u16 = 1;
pub(super) const BITSET_BITS: u16 = 3;
pub(super) const BIT: u16 = 1;
pub(super) const BIT_NAME: u16 = 2;
pub(super) const BIT_VALUE: u16 = 3;

/// Marks an attribute that holds others.
pub(super) const NESTED: u16 = 1 << 15;
/// The kind without its marks.
const KIND: u16 = 0x3fff;
/// Length and kind.
const HEADER: usize = 4;

/// Asks the kernel for the offloads of an interface, by its index.
pub fn read(index: u32) -> Result<Offloads> {
    let mut requests = Requests::open_generic().context("cannot ask the kernel for offloads")?;
    let family = match requests.get(request(CONTROL, CONTROL_GET_FAMILY, attribute(FAMILY_NAME, b"ethtool\0"))) {
        Ok(answer) => family_number(&answer.attributes).context("the kernel does not tell its number of ethtool")?,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            bail!("this kernel has no ethtool netlink (CONFIG_ETHTOOL_NETLINK)")
        }
        Err(error) => return Err(unanswered(error)),
    };
    let device = attribute(HEADER_DEVICE_INDEX, &index.to_ne_bytes());
    let question = request(family, FEATURES_GET, attribute(FEATURES_HEADER | NESTED, &device));
    let answer = requests.get(question).map_err(unanswered)?;
    active(&answer.attributes).context("the kernel's answer about offloads cannot be read")
}

fn unanswered(error: io::Error) -> anyhow::Error {
    anyhow!(error).context("the kernel does not tell offloads")
}

fn request(family: u16, command: u8, attributes: Vec<u8>) -> GenericMessage {
    GenericMessage { family, command, version: 1, attributes }
}

/// One attribute, filled up to a multiple of 4 bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = HEADER + value.len();
    let mut bytes = [&(length as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// Kinds and values of the attributes, up to one that is cut short.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let (length, kind) = (u16::from_ne_bytes([a, b]).into(), u16::from_ne_bytes([c, d]) & KIND);
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn family_number(answer: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*value(answer, FAMILY_ID)?.first_chunk()?))
}

/// The offloads that are active, by the attributes of an answer.
pub(super) fn active(answer: &[u8]) -> Option<Offloads> {
    let set = value(answer, FEATURES_ACTIVE)?;
    // Without a mask it lists what is set, with one what it knows of.
    let all_set = value(set, BITSET_WITHOUT_MASK).is_some();
    let mut offloads = Offloads::default();
    for (_, bit) in attributes(value(set, BITSET_BITS)?).filter(|(kind, _)| *kind == BIT) {
        if !all_set && value(bit, BIT_VALUE).is_none() {
            continue;
        }
        match value(bit, BIT_NAME)? {
            b"rx-lro\0" => offloads.lro = true,
            b"rx-gro-hw\0" => offloads.hardware_gro = true,
            b"rx-vlan-hw-parse\0" => offloads.strips_tags = true,
            b"rx-vlan-stag-hw-parse\0" => offloads.strips_service_tags = true,
            _ => {}
        }
    }
    Some(offloads)
}
