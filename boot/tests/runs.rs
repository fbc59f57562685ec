//! One boot of a program, from the command line to the exit code, with make-believe QEMUs.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout};

use bootloader_api::BootloaderConfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Bench, Ended, elf_with, is_alive};

const NONE: [&str; 0] = [];

#[test]
fn the_guests_exit_code_becomes_the_runners() {
    for (qemu, code, word) in
        [(33, 0, ""), (35, 1, "exit 1"), (37, 2, "panicked"), (39, 3, "threw"), (97, 32, "32")]
    {
        let ended = Bench::new(&format!("echo hello; exit {qemu}"), "").run(&NONE);
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), "hello\n"), "{ended:?}");
        assert!(ended.err.contains(word) && ended.err.is_empty() == (code == 0), "{ended:?}");
    }
}

#[test]
fn a_triple_fault_is_named() {
    let ended = Bench::new("echo last words; echo 'Triple fault' > $log; exit 0", "").run(&NONE);
    assert_eq!(ended.code, Some(125));
    assert!(ended.err.contains("triple fault") && ended.err.contains("last words"), "{ended:?}");
    let ended = Bench::new("echo 'CPU Reset (CPU 0)' > $log; exit 0", "").run(&NONE);
    assert_eq!(ended.code, Some(126));
    assert!(ended.err.contains("reset") && !ended.err.contains("triple"), "{ended:?}");
}

#[test]
fn qemus_own_errors_are_shown() {
    let ended = Bench::new("echo 'qemu: no such CPU' >&2; exit 1", "").run(&NONE);
    assert_eq!(ended.code, Some(126));
    assert!(ended.err.contains("status 1") && ended.err.contains("| qemu: no such CPU"), "{ended:?}");
    let ended = Bench::new("kill -SEGV $$", "").run(&NONE);
    assert_eq!(ended.code, Some(126));
    assert!(ended.err.contains("signal 11"), "{ended:?}");
}

#[test]
fn a_time_out_says_how_far_it_came_and_leaves_nothing() {
    let bench = Bench::new("echo $$ > $0.pid; echo booting; printf half; sleep 1000", "");
    let ended = bench.run(&["--timeout", "1"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(124), "booting\nhalf"));
    assert!(
        ended.err.contains("timed out after 1.") && ended.err.contains("last line: booting"),
        "{ended:?}"
    );
    assert!(!is_alive(&fs::read_to_string(bench.path("qemu.pid")).expect("its number")));
    let silent = Bench::new("sleep 1000", "").run(&["--timeout", "1"]);
    assert!(silent.err.contains("not even of the firmware"), "{silent:?}");
}

/// A run that has said its first line.
fn started(bench: &Bench) -> (Child, BufReader<ChildStdout>) {
    let mut child = bench.command(&NONE).spawn().expect("the runner starts");
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (child, out)
}

#[test]
fn signals_end_qemu_and_its_children() {
    for (signal, trap) in [(Signal::SIGTERM, ""), (Signal::SIGINT, ""), (Signal::SIGHUP, "trap '' TERM;")] {
        let bench =
            Bench::new(&format!("{trap} sleep 1000 & echo $$ $! > $0.pid; echo ready; wait; sleep 1000"), "");
        let (child, _out) = started(&bench);
        kill(Pid::from_raw(child.id().try_into().expect("a number")), signal).expect("sent");
        let ended = Ended::of(child.wait_with_output().expect("it ends"));
        assert_eq!(ended.code, Some(130), "{signal}: {ended:?}");
        assert!(ended.err.contains("interrupted"), "{ended:?}");
        let processes = fs::read_to_string(bench.path("qemu.pid")).expect("their numbers");
        assert_eq!(processes.split_whitespace().filter(|process| is_alive(process)).count(), 0, "{signal}");
        bench.assert_clean();
    }
}

#[test]
fn output_streams_as_it_comes() {
    let bench = Bench::new("printf half; read -r _ < $0.fifo; echo ' a line'; exit 33", "");
    make_fifo(&bench);
    let mut child = bench.command(&NONE).spawn().expect("the runner starts");
    let mut out = child.stdout.take().expect("its output");
    let mut half = [0; 4];
    out.read_exact(&mut half).expect("half a line while the guest waits");
    assert_eq!(&half, b"half");
    fs::write(bench.path("qemu.fifo"), "go\n").expect("written");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, " a line\n");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn what_is_typed_waits_until_the_guest_reads() {
    // `read -t` of dash has no time limit, so what was typed too early is looked for by a short life of `head`.
    let script = "timeout 0.5 head -c 1 > $0.early; printf 'first\\021\\n'; cat; exit 33";
    let bench = Bench::new(script, "");
    let file = bench.path("typed");
    fs::write(&file, "one\ntwo").expect("written");
    let ended = bench.run(&["--input", file.to_str().expect("text")]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "first\none\ntwo\u{4}\u{4}"), "{ended:?}");
    let ended = Bench::new("printf '\\021last words\\n'; exit 0", "").run(&NONE);
    assert!(ended.err.contains("last words") && !ended.err.contains('\u{11}'), "{ended:?}");
    assert_eq!(fs::read(bench.path("qemu.early")).expect("read"), b"", "nothing came before XON");
    for (name, why) in [("/no/such/file", "No such file"), ("/", "directory")] {
        bench.run(&["--input", name]).refused(&["cannot read the input", name, why]);
    }
}

#[test]
fn a_guest_that_never_reads_ends_all_the_same() {
    let bench = Bench::new("echo done; exit 33", "");
    let mut command = bench.command(&["--input", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("the runner starts");
    let typed = child.stdin.take();
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    drop(typed);
}

fn make_fifo(bench: &Bench) {
    let made =
        std::process::Command::new("mkfifo").arg(bench.path("qemu.fifo")).status().expect("mkfifo starts");
    assert!(made.success());
}

#[test]
fn two_runs_side_by_side_have_files_of_their_own() {
    let bench = Bench::new("echo ready; echo $image; until [ -e $0.go ]; do sleep 0.05; done; exit 33", "");
    let (first, mut first_out) = started(&bench);
    let (second, mut second_out) = started(&bench);
    fs::write(bench.path("qemu.go"), "").expect("written");
    let mut images = [String::new(), String::new()];
    first_out.read_line(&mut images[0]).expect("a line");
    second_out.read_line(&mut images[1]).expect("a line");
    assert_ne!(images[0], images[1]);
    for child in [first, second] {
        assert_eq!(Ended::of(child.wait_with_output().expect("it ends")).code, Some(0));
    }
    bench.assert_clean();
}

#[test]
fn boot_arguments_travel_in_the_image() {
    let bench = Bench::new("grep -aq 'gomaxprocs=2 log=debug' $image && exit 33; exit 35", "");
    assert_eq!(bench.run(&["--args", "gomaxprocs=2 log=debug"]).code, Some(0));
    assert_eq!(bench.run(&["--args", "gomaxprocs=3"]).code, Some(1));
    let image = bench.path("disk.img");
    let ended = bench.run(&["--args", "run=idle", "--image-only", image.to_str().expect("text")]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""));
    let bytes = fs::read(image).expect("the image");
    assert_eq!(bytes[510..512], [0x55, 0xaa], "a boot sector");
    assert!(bytes.windows(9).any(|window| window == b"run=idle\n"));
}

#[test]
fn a_debugger_is_told_what_to_type() {
    let bench = Bench::new("echo \"$@\"; exit 33", "");
    let config = BootloaderConfig::new_default().serialize();
    fs::write(bench.program(), elf_with(&config, b"")).expect("written");
    let ended = bench.run(&["--gdb"]);
    let port = ended.out.split_once("-gdb tcp:127.0.0.1:").expect("a port").1;
    let port = port.split_whitespace().next().expect("a number");
    assert!(ended.out.contains(" -S"), "{ended:?}");
    assert!(ended.err.contains(&format!("'target remote 127.0.0.1:{port}'")), "{ended:?}");
    assert!(ended.err.contains("symbol-file -o 0x8000000000 "), "{ended:?}");
    assert!(ended.err.contains(bench.program().to_str().expect("text")), "{ended:?}");
}

#[test]
fn what_keeps_a_run_from_starting_is_one_line() {
    let bench = Bench::new("exit 33", "");
    bench.run(&["--qemu", "/no/such/qemu"]).refused(&["/no/such/qemu", "./setup.sh"]);
    bench.run(&["steal"]).refused(&["`steal`", "holds none", "--args"]);
    bench.run(&["--smp", "0"]).refused(&["--smp", "at least 1"]);
    bench.run(&["--smp", "300", "--machine", "pc"]).refused(&["300 CPUs", "q35"]);
    fs::write(bench.program(), "no program").expect("written");
    bench.run(&NONE).refused(&["not a 64-bit ELF file"]);
    fs::remove_file(bench.program()).expect("removed");
    bench.run(&NONE).refused(&["cannot read the program", "No such file"]);
}

#[test]
fn missing_uefi_firmware_is_one_line() {
    let bench = Bench::new("exit 33", "");
    let output = bench.command(&["--firmware", "uefi"]).env("GZERO_OVMF", bench.path("none")).output();
    Ended::of(output.expect("the runner starts")).refused(&["OVMF", "GZERO_OVMF", "./setup.sh"]);
    bench.assert_clean();
}

#[test]
fn many_cpus_need_a_new_qemu() {
    let script = |version: &str| {
        format!(
            "[ \"$1\" = --version ] && echo 'QEMU emulator version {version}' && exit; echo \"$@\"; exit 33"
        )
    };
    Bench::new(&script("7.2.19"), "").run(&["--smp", "288"]).refused(&["288 CPUs need QEMU 9", "7.2.19"]);
    let ended = Bench::new(&script("10.0.2"), "").run(&["--smp", "288"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.out.contains("intel-iommu,intremap=on,eim=on"), "{ended:?}");
}

#[test]
fn help_names_every_exit_code() {
    let ended = Bench::new("exit 33", "").run(&["--help"]);
    assert_eq!(ended.code, Some(0));
    for code in ["101", "124", "125", "126", "130"] {
        assert!(ended.out.contains(code), "{code}");
    }
}
