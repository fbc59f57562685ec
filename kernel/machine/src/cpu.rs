//! What this CPU is and can do, by CPUID.
//!
//! CPUID traps to the hypervisor on virtual machines, which costs tens of microseconds. So nothing on the path
//! of an interrupt, a wake-up or a world stop calls this file: facts are read once, at bring-up, and kept.

use core::arch::x86_64::{__cpuid, CpuidResult};
use core::fmt;

use bitflags::bitflags;

/// Leaves by name. Intel SDM vol. 2A, "CPUID", and AMD APM vol. 3, "Obtaining Processor Information".
mod leaf {
    pub(super) const VENDOR: u32 = 0;
    pub(super) const VERSION: u32 = 1;
    pub(super) const TOPOLOGY: u32 = 0xb;
    pub(super) const EXTENDED: u32 = 0x8000_0000;
    pub(super) const EXTENDED_FEATURES: u32 = 0x8000_0001;
    pub(super) const BRAND: u32 = 0x8000_0002;
    pub(super) const POWER: u32 = 0x8000_0007;
}

bitflags! {
    /// The features that the kernel looks at.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features: u32 {
        /// The local APIC can be driven by model-specific registers.
        const X2APIC = 1 << 0;
        /// The local APIC timer can fire at a TSC value.
        const TSC_DEADLINE = 1 << 1;
        /// The TSC runs at one rate in all power states.
        const INVARIANT_TSC = 1 << 2;
        /// Page tables can map 1 GiB at once.
        const HUGE_PAGES = 1 << 3;
        /// Pages can be made not executable.
        const NX = 1 << 4;
        /// MONITOR and MWAIT exist; not a promise that MWAIT sleeps.
        const MWAIT = 1 << 5;
        /// The CPU is a hypervisor's or an emulator's.
        const HYPERVISOR = 1 << 6;
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, _)) in self.iter_names().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{name}")?;
        }
        Ok(())
    }
}

/// A short text of the CPU; shown without padding, and with `?` for what is not printable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(N);
        let text = self.0.get(..end).unwrap_or_default().trim_ascii();
        text.iter().try_for_each(|&byte| {
            let shown = if (b' '..=b'~').contains(&byte) { byte } else { b'?' };
            fmt::Write::write_char(f, char::from(shown))
        })
    }
}

impl<const N: usize> fmt::Debug for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What CPUID says about the CPU that asked.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// The maker, such as `GenuineIntel`.
    pub vendor: Name<12>,
    /// The model as sold; empty where the CPU does not say.
    pub brand: Name<48>,
    /// Family, with the extended family added.
    pub family: u32,
    /// Model, with the extended model in front.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// What it can do.
    pub features: Features,
}

impl Cpu {
    /// Asks this CPU.
    pub fn identify() -> Self {
        let version = __cpuid(leaf::VERSION);
        let (family, model, stepping) = version_numbers(version.eax);
        Self { vendor: vendor(), brand: brand(), family, model, stepping, features: features(version) }
    }
}

/// The id of this CPU's local APIC: 32 bits wide where the CPU can say so, else 8.
///
/// Intel SDM vol. 3A, "Identifying Logical Processors in an MP System": leaf 0xb is valid when its EBX is not zero.
pub fn initial_apic_id() -> u32 {
    if __cpuid(leaf::VENDOR).eax >= leaf::TOPOLOGY {
        let topology = __cpuid(leaf::TOPOLOGY);
        if topology.ebx != 0 {
            return topology.edx;
        }
    }
    __cpuid(leaf::VERSION).ebx >> 24
}

fn vendor() -> Name<12> {
    let CpuidResult { ebx, edx, ecx, .. } = __cpuid(leaf::VENDOR);
    let mut name = [0; 12];
    join(&mut name, [ebx, edx, ecx]);
    Name(name)
}

fn brand() -> Name<48> {
    let mut name = [0; 48];
    // Three leaves of 16 bytes each.
    if __cpuid(leaf::EXTENDED).eax >= leaf::BRAND + 2 {
        for (part, number) in name.chunks_exact_mut(16).zip(leaf::BRAND..) {
            let CpuidResult { eax, ebx, ecx, edx } = __cpuid(number);
            join(part, [eax, ebx, ecx, edx]);
        }
    }
    Name(name)
}

fn join<const N: usize>(to: &mut [u8], registers: [u32; N]) {
    for (part, register) in to.chunks_exact_mut(4).zip(registers) {
        part.copy_from_slice(&register.to_le_bytes());
    }
}

/// Family, model and stepping of leaf 1. Intel SDM vol. 2A, "CPUID", "Version Information".
fn version_numbers(eax: u32) -> (u32, u32, u32) {
    let (family, model) = (eax >> 8 & 0xf, eax >> 4 & 0xf);
    let extended_model = if family == 6 || family == 0xf { eax >> 12 & 0xf0 } else { 0 };
    let extended_family = if family == 0xf { eax >> 20 & 0xff } else { 0 };
    (family + extended_family, extended_model | model, eax & 0xf)
}

fn features(version: CpuidResult) -> Features {
    let last = __cpuid(leaf::EXTENDED).eax;
    // A leaf beyond the last returns another leaf's data.
    let edx_of = |number| if last >= number { __cpuid(number).edx } else { 0 };
    let extended = edx_of(leaf::EXTENDED_FEATURES);
    let power = edx_of(leaf::POWER);
    let bits = [
        (Features::X2APIC, version.ecx, 21),
        (Features::TSC_DEADLINE, version.ecx, 24),
        (Features::INVARIANT_TSC, power, 8),
        (Features::HUGE_PAGES, extended, 26),
        (Features::NX, extended, 20),
        (Features::MWAIT, version.ecx, 3),
        (Features::HYPERVISOR, version.ecx, 31),
    ];
    bits.into_iter()
        .filter(|&(_, register, bit)| register >> bit & 1 == 1)
        .map(|(feature, ..)| feature)
        .collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::{Name, version_numbers};

    #[test]
    fn names_lose_their_padding() {
        assert_eq!(Name(*b"  Some CPU \0\0").to_string(), "Some CPU");
        assert_eq!(Name(*b"\xffCPU").to_string(), "?CPU");
    }

    #[test]
    fn extended_numbers_count_only_where_they_are_defined() {
        assert_eq!(version_numbers(0x0008_06f8), (6, 0x8f, 8), "extended model, no extended family");
        assert_eq!(version_numbers(0x00a2_0f12), (0x19, 0x21, 2), "both");
        assert_eq!(version_numbers(0x0ff0_0543), (5, 4, 3), "neither");
    }
}
