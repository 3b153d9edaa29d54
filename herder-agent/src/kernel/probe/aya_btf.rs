//! Keeps aya from parsing the kernel's BTF, which takes some 20 MiB for a moment. That was the
//! peak of the agent's memory, and what a limit had to be sized for.
//!
//! It does so twice. [`EbpfLoader::new`] reads it for relocations, which these programs do not
//! have. And to trace a function aya looks for the number of its type, which our own
//! reader knows already.

use super::btf::{FUNC, PTR, TypeId};
use aya::{Btf, BtfError, EbpfLoader, Endianness};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The header's length (`struct btf_header`, include/uapi/linux/btf.h), and that of a
/// type without a tail.
const HEADER: u32 = 24;
const TYPE: u32 = 12;

/// A loader that has not read the kernel's BTF. There is no other way to make one than
/// [`EbpfLoader::new`], which does without the file if it cannot open it; so for that moment no
/// file can be opened. Only called at the start, when no other thread opens any.
pub(super) fn loader<'a>() -> EbpfLoader<'a> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let set = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum });
    // If this fails, the file is read and dropped.
    let _ = set(Some(0));
    let mut loader = EbpfLoader::new();
    if let Err(error) = set(current) {
        tracing::error!(%error, "The limit of open files stays at 0.");
    }
    loader.btf(None);
    loader
}

/// A BTF in which this function has this type, and all those before it are nothing.
pub(super) fn stand_in(function: &str, TypeId(id): TypeId) -> Result<Btf, BtfError> {
    Btf::parse(&bytes(function, id), Endianness::default())
}

fn bytes(function: &str, id: u32) -> Vec<u8> {
    let types = id.saturating_mul(TYPE);
    let strings = u32::try_from(function.len() + 2).unwrap_or(u32::MAX);
    let header = [0x0001_eb9f, HEADER, 0, types, types, strings];
    let filler = [0, u32::from(PTR) << 24, 0];
    let found = [1, u32::from(FUNC) << 24, 0];
    let fillers = (1..id).flat_map(|_| filler);
    let words = header.into_iter().chain(fillers).chain(found);
    let mut bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    bytes.push(0);
    bytes.extend_from_slice(function.as_bytes());
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::btf;
    use std::collections::HashSet;

    #[test]
    fn the_function_has_its_number() {
        for id in [1, 2, 70_000] {
            let bytes = bytes("oom_kill_process", id);
            let names = HashSet::from(["oom_kill_process"]);
            let btf = btf::Btf::parse(&bytes, &names).unwrap();
            assert_eq!(btf.function("oom_kill_process"), Some(TypeId(id)));
            let parsed = stand_in("oom_kill_process", TypeId(id)).unwrap();
            assert!(parsed.to_bytes() == bytes, "aya reads the same types from it");
        }
    }
}
