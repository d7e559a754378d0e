//! Arrays of the kernel, mapped into memory: a write is a store, and ten million slots are written in milliseconds.

use std::{io, marker::PhantomData, num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use aya::maps::{MapData, MapError};
use lb_common::abi::Abi;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// All elements of one array (`BPF_F_MMAPABLE`).
pub struct Mapped<T> {
    memory: NonNull<std::ffi::c_void>,
    bytes: usize,
    entries: u32,
    access: Access,
    elements: PhantomData<T>,
}

// SAFETY: the memory belongs to the mapping alone, not to a thread, and is only read and written whole elements at a time
// through volatile accesses.
unsafe impl<T: Abi> Send for Mapped<T> {}

/// Whether a mapping may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading verbs.
    Read,
    /// For whoever changes tables.
    Write,
}

impl Mapped<u64> {
    /// The last word of the only element of an array, of whatever size that is.
    pub fn last_word(map: &MapData) -> Result<u64, MapError> {
        let bytes = map.info()?.value_size();
        let words = bytes / size_of::<u64>() as u32;
        Ok(Self::of_bytes(map, bytes as usize, words, Access::Read)?.get(words.saturating_sub(1)))
    }
}

impl<T: Abi> Mapped<T> {
    /// Maps an array whose elements are `T`.
    pub fn new(map: &MapData, access: Access) -> Result<Self, MapError> {
        let info = map.info()?;
        let element = info.value_size() as usize;
        let fault = MapError::IoError;
        if element != size_of::<T>() {
            let reason = format!(
                "map {}: elements of {element} bytes, not {}",
                info.name_as_str().unwrap_or("?"),
                size_of::<T>()
            );
            return Err(fault(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        let entries = info.max_entries();
        Self::of_bytes(map, element * entries as usize, entries, access)
    }

    fn of_bytes(map: &MapData, bytes: usize, entries: u32, access: Access) -> Result<Self, MapError> {
        let fault = MapError::IoError;
        let page = 4096;
        let bytes = bytes.next_multiple_of(page);
        let length = NonZeroUsize::new(bytes).ok_or_else(|| fault(io::Error::other("map without entries")))?;
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        // SAFETY: a fresh shared mapping at an address the kernel chooses; it aliases nothing of this process.
        let memory = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }
            .map_err(|errno| fault(errno.into()))?;
        Ok(Mapped { memory, bytes, entries, access, elements: PhantomData })
    }

    /// Maps, to read it, what the only element of an array begins with, of whatever size that is.
    pub fn head(map: &MapData) -> Result<Self, MapError> {
        let info = map.info()?;
        if (info.value_size() as usize) < size_of::<T>() {
            return Err(MapError::IoError(io::Error::new(io::ErrorKind::InvalidData, "a map that weir did not make")));
        }
        Self::of_bytes(map, size_of::<T>(), 1, Access::Read)
    }

    /// How many elements there are.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// One element. Panics if there is no such one: indices come from this program.
    pub fn get(&self, index: u32) -> T {
        // SAFETY: `at` points to an element within the mapping; any bytes are a `T`.
        unsafe { self.at(index).read_volatile() }
    }

    /// Replaces one element; not in one store unless it is a `u64`.
    pub fn set(&self, index: u32, value: T) {
        // SAFETY: `at_mut` points to an element within the mapping, which may be written.
        unsafe { self.at_mut(index).write_volatile(value) }
    }

    /// Where an element lies, for stores to a part of it. Panics if it was mapped to be read only.
    pub fn at_mut(&self, index: u32) -> *mut T {
        assert!(self.access == Access::Write, "tables opened to be read are not written");
        self.at(index).cast_mut()
    }

    /// Where an element lies, for loads of a part of it.
    pub fn at(&self, index: u32) -> *const T {
        assert!(index < self.entries, "index {index} of {} entries", self.entries);
        // SAFETY: the index was just checked against the number of elements that were mapped.
        unsafe { self.memory.cast::<T>().as_ptr().cast_const().add(index as usize) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, is unmapped only here, and no pointer into it is kept.
        let unmapped = unsafe { munmap(self.memory, self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
