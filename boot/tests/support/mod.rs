//! Tiny programs and make-believe QEMUs for the runner's tests.
#![expect(dead_code, reason = "each test binary takes what it needs")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Finds its image and its log of resets among QEMU's arguments: `$image`, `$log`.
const PRELUDE: &str = r#"#!/bin/sh
for word in "$@"; do
    case $word in format=raw,snapshot=on,file=*) image=${word##*file=};; esac
    [ "$before" = -D ] && log=$word
    before=$word
done
"#;

/// A guest that runs the cases it finds in its image; what happens is told by how a case's name begins.
pub(crate) const GUEST: &str = r#"
cases=$(grep -ao 'cases=[a-z_,]*' "$image" | head -n 1 | cut -d= -f2 | tr , ' ')
set -- $cases
echo "running $# tests"
status=33
for name in "$@"; do
    echo "test $name ..."
    echo "words of $name"
    case $name in
    fail*) echo "test $name ... FAILED: 1 is not 2"; status=35; continue;;
    panic*) echo "panic: boom"; exit 37;;
    throw*) exit 39;;
    seven*) exit 47;;
    triple*) echo "Triple fault" > "$log"; exit 0;;
    hang*) sleep 1000;;
    esac
    echo "test $name ... ok"
done
echo "test result: over"
exit $status
"#;

/// A folder with a program, a make-believe QEMU, and a place for temporary files that has to be empty at the end.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    /// A bench whose QEMU is a shell script and whose program declares these test cases.
    pub(crate) fn new(script: &str, cases: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(bench.temporary()).expect("made");
        fs::write(bench.program(), elf(cases.as_bytes())).expect("written");
        fs::write(bench.qemu(), format!("{PRELUDE}{script}")).expect("written");
        fs::set_permissions(bench.qemu(), fs::Permissions::from_mode(0o755)).expect("set");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.path("program")
    }

    pub(crate) fn qemu(&self) -> PathBuf {
        self.path("qemu")
    }

    fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    /// The runner, with the bench's program and QEMU, ready to start.
    pub(crate) fn command<I: AsRef<OsStr>>(&self, args: &[I]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boot"));
        command.arg(self.program()).args(args).env("GZERO_QEMU", self.qemu()).env("TMPDIR", self.temporary());
        command
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end and checks that nothing is left behind.
    pub(crate) fn run<I: AsRef<OsStr>>(&self, args: &[I]) -> Ended {
        let ended = Ended::of(self.command(args).output().expect("the runner starts"));
        self.assert_clean();
        ended
    }

    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> =
            fs::read_dir(self.temporary()).expect("read").flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
    }
}

/// How the runner ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Asserts the exit code and that the messages are one line with these words.
    pub(crate) fn refused(&self, words: &[&str]) {
        assert_eq!(self.code, Some(126), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word}: {self:?}");
        }
    }
}

/// Whether a process is there.
pub(crate) fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(process.trim()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A program with these test cases, and with nonsense for the boot loader.
pub(crate) fn elf(cases: &[u8]) -> Vec<u8> {
    elf_with(&[0x55; 64], cases)
}

/// An ELF file with one page to load, the boot loader's section, a list of cases, and debug data.
pub(crate) fn elf_with(config: &[u8], cases: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.bootloader-config\0.gzero.cases\0.debug_info\0.shstrtab\0";
    let debug = vec![0xdd; 100_000];
    let mut file = vec![0; 0x1000];
    let mut sections: Vec<[u64; 4]> = vec![[0; 4]];
    for (name, kind, content) in [(1, 1, config), (20, 1, cases), (33, 1, &debug), (45, 3, NAMES)] {
        sections.push([name, kind, file.len() as u64, content.len() as u64]);
        file.extend_from_slice(content);
        // the first section is loaded, the others lie behind what is loaded
        file.resize(file.len().next_multiple_of(0x1000), 0);
    }
    let table = file.len() as u64;
    for [name, kind, offset, size] in sections {
        for word in [name | kind << 32, 0, 0, offset, size, 0, 1, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
    }
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_DYN, x86_64, version, entry, program headers, section headers, flags and sizes
    put(&[3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0x1000, 64, table] {
        put(&u64::to_le_bytes(word));
    }
    for half in [0_u16, 0, 64, 56, 1, 64, 5, 4] {
        put(&half.to_le_bytes());
    }
    // PT_LOAD, readable and executable
    for word in [1 | 5 << 32, 0, 0, 0, 0x1040, 0x1040, 0x1000] {
        put(&u64::to_le_bytes(word));
    }
    file
}
