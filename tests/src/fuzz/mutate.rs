//! Frames damaged where it matters: lengths, offsets, versions, kinds, ports, addresses; and anywhere.

use fastrand::Rng;

use super::{judges::LONGEST, setups::Names};

/// Damages a frame in one to four places; `other` is another frame, to take a piece of.
pub fn damage(rng: &mut Rng, names: &Names, frame: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.u8(1..5) {
        once(rng, names, frame, other);
    }
    frame.truncate(LONGEST);
}

fn once(rng: &mut Rng, names: &Names, frame: &mut Vec<u8>, other: &[u8]) {
    if frame.is_empty() {
        frame.extend(other);
        return;
    }
    match rng.u8(..20) {
        0..3 => {
            let at = place(rng, frame.len());
            frame[at] ^= 1 << rng.u8(..8);
        }
        3 | 4 => {
            const BYTES: [u8; 16] = [0, 1, 2, 4, 5, 6, 8, 0x11, 0x2c, 0x3a, 0x3c, 0x45, 0x60, 0x81, 0x86, 0xff];
            let at = place(rng, frame.len());
            frame[at] = BYTES[rng.usize(..BYTES.len())];
        }
        5 => {
            let at = place(rng, frame.len());
            frame[at] = rng.u8(..);
        }
        6..13 => field(rng, names, frame),
        13 => frame.truncate(rng.usize(..=frame.len())),
        14 => frame.resize(frame.len() + rng.usize(1..40), rng.u8(..2) * rng.u8(..)),
        15 => {
            let (at, length) = (place(rng, frame.len()), rng.usize(1..16));
            frame.drain(at..(at + length).min(frame.len()));
        }
        16 => {
            let at = place(rng, frame.len());
            let piece: Vec<u8> = (0..pick(rng, &[1, 2, 4, 8, 20])).map(|_| rng.u8(..)).collect();
            frame.splice(at..at, piece);
        }
        17 => {
            // A piece that occurs twice: a tag, an extension header, an option.
            let at = place(rng, frame.len());
            let piece = frame[at..(at + pick(rng, &[2, 4, 8, 8, 20])).min(frame.len())].to_vec();
            frame.splice(at..at, piece);
        }
        _ if !other.is_empty() => {
            let at = place(rng, frame.len());
            let from = place(rng, other.len());
            if rng.bool() {
                frame.truncate(at);
                frame.extend(&other[from.min(at)..]);
            } else {
                let piece = &other[from..(from + 16).min(other.len())];
                let end = (at + piece.len()).min(frame.len());
                frame.splice(at..end, piece.iter().copied());
            }
        }
        _ => {}
    }
}

/// Most faults that matter lie in the headers.
fn place(rng: &mut Rng, length: usize) -> usize {
    if rng.u8(..5) == 0 { rng.usize(..length) } else { rng.usize(..length.min(96)) }
}

/// Where a field lies, how many bytes it has, and what it is.
#[derive(Clone, Copy)]
struct Field {
    at: usize,
    bytes: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Length,
    Protocol,
    Port,
    Address,
    Fragment,
}

/// Changes one field to a value that means something there.
fn field(rng: &mut Rng, names: &Names, frame: &mut [u8]) {
    let fields = fields(frame);
    let Field { at, bytes, kind } = fields[rng.usize(..fields.len())];
    let Some(field) = frame.get_mut(at..at + bytes) else { return };
    match (kind, field) {
        (Kind::Length, [high, low]) => {
            let old = u16::from_be_bytes([*high, *low]);
            let new = match rng.u8(..6) {
                0 => 0,
                1 => rng.u16(..),
                2 => u16::MAX,
                _ => old.wrapping_add(rng.u16(..17)).wrapping_sub(8),
            };
            [*high, *low] = new.to_be_bytes();
        }
        (Kind::Fragment, [high, low]) => {
            const WORDS: [u16; 9] = [0, 0x2000, 0x4000, 0x8000, 1, 8, 0x2001, 0x2008, 0x1fff];
            [*high, *low] = pick(rng, &WORDS).to_be_bytes();
        }
        (Kind::Port, [high, low]) => {
            let vip = pick(rng, &names.vips4).2;
            [*high, *low] = pick(rng, &[0, 80, vip, vip, 40_000]).to_be_bytes();
        }
        (Kind::Protocol, [protocol]) => {
            *protocol = pick(rng, &[0, 1, 4, 6, 6, 17, 17, 41, 43, 44, 44, 50, 51, 58, 59, 60, 132, 135]);
        }
        (Kind::Address, field) if field.len() == 4 => {
            let vip = pick(rng, &names.vips4).0;
            field.copy_from_slice(&if rng.bool() { vip } else { pick(rng, &names.others4) });
        }
        (Kind::Address, field) if field.len() == 16 => {
            let vip = pick(rng, &names.vips6).0;
            field.copy_from_slice(&if rng.bool() { vip } else { pick(rng, &names.others6) });
        }
        (_, field) => field[0] = rng.u8(..),
    }
}

/// The fields of a frame as it says it is built, quoted packets included; positions may lie behind its end.
fn fields(frame: &[u8]) -> Vec<Field> {
    let byte = |at: usize| frame.get(at).copied().unwrap_or_default();
    let mut fields = vec![number(0, 1), number(5, 1), number(12, 2)];
    let mut l3 = 14;
    while l3 < 22 && matches!((byte(l3 - 2), byte(l3 - 1)), (0x81, 0x00) | (0x88, 0xa8)) {
        fields.push(number(l3 + 2, 2));
        l3 += 4;
    }
    let quoted = network(frame, l3, &mut fields);
    if let Some(quoted) = quoted {
        network(frame, quoted, &mut fields);
    }
    fields
}

fn number(at: usize, bytes: usize) -> Field {
    Field { at, bytes, kind: Kind::Number }
}

/// Returns where a quoted packet would begin.
fn network(frame: &[u8], l3: usize, fields: &mut Vec<Field>) -> Option<usize> {
    let byte = |at: usize| frame.get(at).copied().unwrap_or_default();
    let field = |at: usize, bytes: usize, kind: Kind| Field { at, bytes, kind };
    fields.push(number(l3, 1));
    let (mut protocol, mut l4) = if byte(l3) >> 4 == 4 {
        fields.extend([
            number(l3 + 1, 1),
            field(l3 + 2, 2, Kind::Length),
            number(l3 + 5, 1),
            field(l3 + 6, 2, Kind::Fragment),
            number(l3 + 8, 1),
            field(l3 + 9, 1, Kind::Protocol),
            field(l3 + 12, 4, Kind::Address),
            field(l3 + 16, 4, Kind::Address),
        ]);
        (byte(l3 + 9), l3 + usize::from(byte(l3) & 15) * 4)
    } else {
        fields.extend([
            number(l3 + 1, 1),
            field(l3 + 4, 2, Kind::Length),
            field(l3 + 6, 1, Kind::Protocol),
            number(l3 + 7, 1),
            field(l3 + 8, 16, Kind::Address),
            field(l3 + 24, 16, Kind::Address),
        ]);
        (byte(l3 + 6), l3 + 40)
    };
    for _ in 0..9 {
        let length = match protocol {
            0 | 43 | 60 | 135 => (usize::from(byte(l4 + 1)) + 1) * 8,
            51 => (usize::from(byte(l4 + 1)) + 2) * 4,
            44 => 8,
            _ => break,
        };
        fields.extend([field(l4, 1, Kind::Protocol), number(l4 + 1, 1), field(l4 + 2, 2, Kind::Fragment)]);
        fields.push(number(l4 + 7, 1));
        protocol = byte(l4);
        l4 += length;
    }
    match protocol {
        6 | 17 => fields.extend([
            field(l4, 2, Kind::Port),
            field(l4 + 2, 2, Kind::Port),
            field(l4 + 4, 2, Kind::Length),
            number(l4 + 12, 1),
            number(l4 + 13, 1),
            number(l4 + 14, 2),
            number(l4 + 20, 1),
            number(l4 + 21, 1),
        ]),
        1 | 58 => {
            fields.extend([number(l4, 1), number(l4 + 1, 1), number(l4 + 6, 2)]);
            fields.push(field(l4 + 8, 16, Kind::Address));
            return Some(l4 + 8);
        }
        _ => {}
    }
    None
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}
