//! The map of interrupt vectors.

/// An interrupt vector, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector(pub u8);

impl Vector {
    /// Non-maskable interrupt.
    pub const NMI: Self = Self(2);
    /// Double fault.
    pub const DOUBLE_FAULT: Self = Self(8);
    /// Page fault.
    pub const PAGE_FAULT: Self = Self(14);
    /// Machine check.
    pub const MACHINE_CHECK: Self = Self(18);
    /// First vector that is not an exception. Intel SDM vol. 3A, "Exception and Interrupt Vectors".
    pub const FIRST_INTERRUPT: Self = Self(32);
    /// The first serial port: 48 and the ISA interrupt's number.
    pub const COM1: Self = Self(0x34);
    /// The second serial port.
    pub const COM2: Self = Self(0x33);
    /// Ends a halt: the sender has put work where the receiver will look.
    pub const WAKE: Self = Self(0xf0);
    /// Asks a CPU that is being started to show that interrupts reach it.
    pub const PING: Self = Self(0xf1);
    /// The local APIC's timer.
    pub const TIMER: Self = Self(0xf2);
    /// Asks a CPU to look again at what it should run.
    pub const RESCHEDULE: Self = Self(0xf3);
    /// Stops a CPU together with all others.
    pub const STOP: Self = Self(0xf4);
    /// Makes a CPU forget translations of addresses.
    pub const SHOOTDOWN: Self = Self(0xf5);
    /// Local APIC error.
    pub const APIC_ERROR: Self = Self(0xfe);
    /// Spurious interrupt: bits 3:0 are ones for the sake of old APICs.
    pub const SPURIOUS: Self = Self(0xff);

    /// Whether the vector is one of the architecture's exceptions.
    pub const fn is_exception(self) -> bool {
        self.0 < Self::FIRST_INTERRUPT.0
    }

    /// Whether the CPU pushes an error code. Intel SDM vol. 3A, "Exception and Interrupt Reference"; AMD APM
    /// vol. 2, "Vectors" for 29 and 30.
    pub const fn has_error_code(self) -> bool {
        HAS_ERROR_CODE & (1 << (self.0 & 31)) != 0 && self.is_exception()
    }

    /// The exception's mnemonic and name, for reports.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "#DE divide error",
            1 => "#DB debug",
            2 => "NMI",
            3 => "#BP breakpoint",
            4 => "#OF overflow",
            5 => "#BR bound range exceeded",
            6 => "#UD invalid opcode",
            7 => "#NM device not available",
            8 => "#DF double fault",
            10 => "#TS invalid TSS",
            11 => "#NP segment not present",
            12 => "#SS stack-segment fault",
            13 => "#GP general protection",
            14 => "#PF page fault",
            16 => "#MF x87 floating-point error",
            17 => "#AC alignment check",
            18 => "#MC machine check",
            19 => "#XM SIMD floating-point",
            20 => "#VE virtualization",
            21 => "#CP control protection",
            28 => "#HV hypervisor injection",
            29 => "#VC VMM communication",
            30 => "#SX security",
            32.. => "interrupt",
            9 | 15 | 22..=27 | 31 => "reserved exception",
        }
    }
}

/// Bit n: exception n pushes an error code.
pub(crate) const HAS_ERROR_CODE: u32 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
