//! What is checked, in which order: quick things first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::suite::images::Image;
use crate::suite::refused;
use crate::suite::step::{Action, Run, Step, Wanted};
use crate::verdict::code;

/// The example that writes a heap dump, whose file is checked as well.
const DUMP: &str = "heapdump";

/// The example that runs for as long as one likes.
const SOAK: &str = "soak";

/// The example that reads what is typed, which is this file.
const WC: &str = "wc";
const TYPED: &str = "README.md";

/// The test image whose cases all have to be called failures.
const CONTROLS: &str = "must_fail";

/// The image of benchmarks, and what its operations cost in instructions when somebody last said so.
const FIGURES: &str = "figures";
const KNOWN_FIGURES: &str = "tests/benches/icount.json";

/// Test images with many cases that die, and so need a boot for each, or with cases that take long: they get only the fast
/// machines below, on which there are 1, 2, 4 and 8 CPUs all the same.
const SLOW: [&str; 9] = [
    "channel_values",
    "deadlocks",
    "dies",
    "joins",
    "many_timers",
    "no_memory",
    "rule",
    "select_arms",
    "traces",
];
const FAST: [&str; 4] = ["smp1-bios-x2apic", "smp4-bios-x2apic", "smp2-bios-xapic", "smp8-bios-xapic"];

/// The test image of a million goroutines, which takes a machine of its own and an optimised build.
const MILLION: &str = "million";

/// Machines for each test image: every value of CPUs, firmware and APIC mode. BIOS mostly, as it boots faster.
const MACHINES: [(&str, &str); 8] = [
    ("smp1-bios-x2apic", "--smp 1 --firmware bios --cpu max"),
    ("smp2-bios-x2apic", "--smp 2 --firmware bios --cpu max"),
    ("smp4-bios-x2apic", "--smp 4 --firmware bios --cpu max"),
    ("smp8-bios-x2apic", "--smp 8 --firmware bios --cpu max"),
    ("smp2-bios-xapic", "--smp 2 --firmware bios --cpu qemu64"),
    ("smp8-bios-xapic", "--smp 8 --firmware bios --cpu qemu64"),
    ("smp4-uefi-x2apic", "--smp 4 --firmware uefi --cpu max"),
    ("smp1-uefi-xapic", "--smp 1 --firmware uefi --cpu qemu64"),
];

/// Machines for the main program: name, options, CPUs that come online.
const MAIN: [(&str, &str, u32); 15] = [
    ("smp1", "--smp 1", 1),
    ("smp2", "--smp 2", 2),
    ("smp3", "--smp 3", 3),
    ("smp4", "", 4),
    ("smp8", "--smp 8", 8),
    ("smp64", "--smp 64", 64),
    ("smp255", "--smp 255", 255),
    ("smp288", "--smp 288", 288),
    ("max", "--cpu max", 4),
    ("qemu64", "--cpu qemu64", 4),
    ("uefi", "--firmware uefi", 4),
    ("uefi-qemu64-smp8", "--firmware uefi --cpu qemu64 --smp 8", 8),
    ("pc", "--machine pc", 4),
    ("topology", "--smp 6,sockets=3,cores=2,maxcpus=12", 6),
    ("96M", "--memory 96M", 4),
];

/// Boot arguments of the main program on four CPUs: name, text, lines that must be printed.
const ARGS: [(&str, &str, &[&str]); 5] = [
    ("gomaxprocs", "gomaxprocs=2", &["cpus: 4 online of 4", "gomaxprocs: 2"]),
    (
        "bad-arguments",
        "frobnicate=1 gomaxprocs=999 log=loud lonely",
        &["`frobnicate=1`", "`gomaxprocs=999`", "`log=loud`", "`lonely`"],
    ),
    ("missing-cpu", "ghost=200", &["cpu   4: apic id 200, did not come online", "cpus: 4 online of 5"]),
    ("boot-cpu-as-missing-cpu", "ghost=0", &["ghost=0: the machine has", "cpus: 4 online of 4"]),
    ("skynet-200-times", SKYNET, &["round 200 of 200"]),
];

/// The tree of 100,000 leaves over and over; the program checks sums and memory itself.
const SKYNET: &str = "run=skynet rounds=200 leaves=100000";

/// Machines for a tree of a million leaves: CPUs, and boot arguments besides.
///
/// No kind of lock may be waited for in more than 1 % of the times that it is taken, on as many CPUs as a large machine has: the program
/// checks that. With 255 the host has so few for them that most waits are its own.
const LEAVES: [(u32, &str); 5] = [(1, ""), (2, ""), (4, ""), (64, " contended=1"), (255, "")];

/// Limit for boots of test images here: beside another boot, and on a slow host, they take longer than alone.
const PATIENT: &str = "--timeout 300";

/// Some inputs for the fuzzer, the same ones in each run; more of them by hand.
const FUZZ: &str = "fuzz-heap -- -runs=20000 -seed=1 -max_len=4000 -len_control=5 -artifact_prefix=target/";

/// What the plan has to know of the host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Root of the checkout.
    pub root: PathBuf,
    /// Major version of QEMU, if it told one.
    pub qemu: Option<u32>,
    /// A second, older QEMU.
    pub old_qemu: Option<PathBuf>,
    /// Why CPU time cannot be measured here, if so.
    pub no_cpu_time: Option<String>,
}

/// All steps.
pub fn steps(host: &Host) -> Vec<Step> {
    let mut plan = Plan(Vec::new());
    plan.cargo("host-tests", "test-host", None);
    let loom = "test --package sched --release --test loom --target host-tuple --target-dir target/loom";
    plan.cargo("loom", loom, Some("--cfg loom"));
    plan.cargo("fuzz-heap", FUZZ, None);
    plan.add("build", Action::Build);
    plan.main_program(host);
    plan.a_million_leaves();
    plan.examples(host);
    plan.input(host);
    plan.stop_the_world();
    plan.heap_dump();
    plan.soak();
    plan.test_images(host);
    plan.million();
    plan.boot_arguments();
    plan.cpus_left_out();
    plan.refused(host);
    plan.add("negative-controls", Action::Controls(CONTROLS.to_owned()));
    plan.idle(host);
    plan.figures();
    plan.old_qemu(host);
    let pair = || Run::boot(Image::Main, "--smp 2", ok(2));
    plan.add("side-by-side", Action::AtOnce(vec![pair(), pair()]));
    plan.0
}

struct Plan(Vec<Step>);

impl Plan {
    fn add(&mut self, name: &str, action: Action) -> &mut Step {
        self.0.push(Step { name: name.to_owned(), action, skip: None, shares: false });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    fn cargo(&mut self, name: &str, line: &str, flags: Option<&'static str>) {
        self.add(name, Action::One(Run::cargo(line, flags)));
    }

    fn main_program(&mut self, host: &Host) {
        for (name, options, cpus) in MAIN {
            let step =
                self.add(&format!("run-{name}"), Action::One(Run::boot(Image::Main, options, ok(cpus))));
            if let Some(major) = host.qemu.filter(|major| cpus > 255 && *major < 9) {
                step.skip = Some(format!("needs QEMU 9, this is {major}"));
            }
        }
        self.add("run-release", Action::One(Run::boot(Image::Release, "", ok(4))));
        for (name, args, lines) in ARGS {
            let lines = lines.iter().map(|&line| line.to_owned()).collect();
            let wanted = Wanted { code: 0, lines, last: Some("gzero: ok"), cpu: None };
            self.add(
                &format!("run-{name}"),
                Action::One(Run::boot(Image::Release, "", wanted).with_args(args)),
            );
        }
    }

    fn a_million_leaves(&mut self) {
        for (cpus, args) in LEAVES {
            let line = format!("--smp {cpus} --memory 2G");
            let args = format!("run=skynet rounds=1 leaves=1000000{args}");
            let mut wanted = ok(cpus);
            wanted.lines.push("round 1 of 1: sum 499999500000".to_owned());
            let run = Run::boot(Image::Release, &line, wanted).with_args(&args);
            self.add(&format!("a-million-leaves-smp{cpus}"), Action::One(run));
        }
    }

    fn examples(&mut self, host: &Host) {
        let special = |name: &String| [DUMP, SOAK, WC].contains(&name.as_str());
        for name in names(&host.root.join("kernel/examples")).into_iter().filter(|name| !special(name)) {
            let step = format!("example-{name}");
            self.add(&step, Action::One(Run::boot(Image::Example(name), "", Wanted::default())));
        }
        let lines = [
            "deadlock: 5 goroutines wait for each other in a ring",
            "[Hypatia] holds mutex \"fork 0\"",
            "all goroutines are asleep - deadlock!",
            "goroutine 1 [main] waits: wait group",
        ];
        let wanted = Wanted { code: 2, lines: lines.map(ToOwned::to_owned).to_vec(), ..Wanted::default() };
        let run = Run::boot(Image::Example("dining".to_owned()), "", wanted).with_args("variant=deadlock");
        self.add("example-dining-deadlock", Action::One(run));
        let lines = vec!["deadlock: 5 goroutines wait for each other in a ring".to_owned()];
        let wanted = Wanted { code: 2, lines, ..Wanted::default() };
        let run = Run::boot(Image::Example("dining".to_owned()), "--smp 1", wanted);
        self.add("example-dining-fatal", Action::One(run.with_args("variant=deadlock deadlock=fatal")));
    }

    /// A file is typed, faster than the guest reads it.
    fn input(&mut self, host: &Host) {
        let text = fs::read_to_string(host.root.join(TYPED)).unwrap_or_default();
        let (lines, words) = (text.lines().count(), text.split_whitespace().count());
        let characters: usize = text.lines().map(|line| line.chars().count()).sum();
        let lines = vec![format!("{lines} lines, {words} words, {characters} characters")];
        for (name, options) in [
            ("smp1", "--smp 1"),
            ("xapic", "--smp 4 --cpu qemu64"),
            ("uefi", "--smp 2 --firmware uefi"),
            ("pc", "--smp 8 --machine pc"),
        ] {
            let wanted = Wanted { lines: lines.clone(), ..Wanted::default() };
            let line = format!("{options} --input {TYPED}");
            let run = Run::boot(Image::Example(WC.to_owned()), &line, wanted).with_args("pause=500");
            self.add(&format!("example-{WC}-{name}"), Action::One(run));
        }
        let line = "--smp 2 --serial2 /dev/null --nocapture --exact the_second_port_receives_too";
        let lines = vec!["the second port has received dump".to_owned()];
        let run = Run::boot(Image::Test("input".to_owned()), line, Wanted { lines, ..Wanted::default() });
        self.add("second-port", Action::One(run));
    }

    /// The example's own program of stops, where CPUs have cores of the host, and where they are many.
    fn stop_the_world(&mut self) {
        for (smp, stops, args) in [(2, 10_000, "stops=10000"), (64, 24, "stops=24")] {
            let lines = vec![
                format!("{stops} stops of {smp} CPUs"),
                "spinning   median stop / median bare broadcast = ".to_owned(),
                format!("1000 stops beside {} halted CPUs: 0 were asked, 0 woke up", smp - 1),
            ];
            let wanted = Wanted { lines, ..Wanted::default() };
            let image = Image::ReleaseExample("stoptheworld".to_owned());
            let run = Run::boot(image, &format!("--smp {smp}"), wanted).with_args(args);
            self.add(&format!("stoptheworld-smp{smp}"), Action::One(run));
        }
    }

    /// Boot arguments that change what happens while goroutines run.
    fn boot_arguments(&mut self) {
        let lines = vec!["SCHED ".to_owned(), "gomaxprocs=2 idleprocs=".to_owned()];
        let wanted = Wanted { lines, last: Some("gzero: ok"), ..Wanted::default() };
        let run = Run::boot(Image::Main, "--smp 2", wanted).with_args("schedtrace=10");
        self.add("schedtrace", Action::One(run));
        let lines =
            vec!["test an_endless_loop_gives_way ... FAILED".to_owned(), "timed out after".to_owned()];
        let wanted = Wanted { code: code::TEST_FAILED, lines, ..Wanted::default() };
        let line = "--smp 1 --timeout 15 --exact an_endless_loop_gives_way";
        let run = Run::boot(Image::Test("preemption".to_owned()), line, wanted).with_args("preempt=off");
        self.add("preempt-off", Action::One(run));
    }

    /// A heap dump goes through the second serial port to a file, which is then read and judged.
    fn heap_dump(&mut self) {
        let mut runs = Vec::new();
        for (smp, cpu) in [("1", "max"), ("4", "max"), ("2", "qemu64")] {
            let file = format!("target/heapdump-{smp}.bin");
            let line = format!("--smp {smp} --cpu {cpu} --serial2 {file}");
            let lines = vec!["1001 goroutines, dumping".to_owned(), "heap dump written".to_owned()];
            let wanted = Wanted { lines, ..Wanted::default() };
            runs.push(Run::boot(Image::Example(DUMP.to_owned()), &line, wanted));
            let mut check = Run::cargo(
                "run --quiet --package boot --bin heapdump-check --target host-tuple -- --goroutines 1001",
                None,
            );
            let asked = [
                ["--function", "heapdump::parked"],
                ["--function", "heapdump::spins"],
                ["--reason", "dumping heap"],
                ["--reason", "park"],
                ["--reason", "sleep"],
                ["--reason", "mailbox"],
                ["--reason", "semacquire"],
            ];
            check.args.extend(asked.as_flattened().iter().map(|&word| word.to_owned()));
            check.args.push(file);
            runs.push(check);
        }
        self.add("heapdump", Action::InTurn(runs));
    }

    /// Two minutes of everything at once; the same for half an hour is done by hand.
    fn soak(&mut self) {
        let line = "--smp 4 --timeout 280";
        let wanted = Wanted { last: Some("soak: ok"), ..Wanted::default() };
        let run = Run::boot(Image::Example(SOAK.to_owned()), line, wanted).with_args("seconds=120 seed=1");
        self.add("soak", Action::One(run));
    }

    fn test_images(&mut self, host: &Host) {
        for name in names(&host.root.join("tests/tests")) {
            let wanted = |machine: &str| match name.as_str() {
                CONTROLS | refused::IMAGE => machine == "smp4-bios-x2apic",
                MILLION => false,
                name if SLOW.contains(&name) => FAST.contains(&machine),
                _ => true,
            };
            for (machine, options) in MACHINES.iter().filter(|(machine, _)| wanted(machine)) {
                let line = format!("{options} {PATIENT}");
                let run = Run::boot(Image::Test(name.clone()), &line, Wanted::default());
                self.add(&format!("test-{name}-{machine}"), Action::One(run)).shares = true;
            }
        }
    }

    /// A million goroutines at once, and ten million in turn.
    fn million(&mut self) {
        let lines =
            vec!["1000000 parked goroutines: ".to_owned(), "10000000 goroutines in turn: ".to_owned()];
        let wanted = Wanted { lines, ..Wanted::default() };
        let line = "--smp 2 --memory 5G --timeout 900 --nocapture";
        self.add("million", Action::One(Run::boot(Image::ReleaseTest(MILLION.to_owned()), line, wanted)));
    }

    /// Programs that must not compile.
    fn refused(&mut self, host: &Host) {
        let path = host.root.join("tests/tests").join(refused::IMAGE).with_extension("rs");
        let runs = refused::runs(&fs::read_to_string(path).unwrap_or_default());
        self.add("refused", Action::InTurn(runs));
    }

    /// Machines with CPUs that do not come up: no memory is left for them, or they do not exist. Those that are left out
    /// stand in the firmware's code and must not be touched; of the two ends only a panic prints for so long that a wrong
    /// interrupt would strike.
    fn cpus_left_out(&mut self) {
        const CASE: &str = "a_panic_says_on_which_cpu";
        let wanted = |line: String| Wanted { lines: vec![line], ..Wanted::default() };
        let short = "--smp 160 --memory 24M";
        let left_out = wanted("no memory for its stacks: left out; and so are ".to_owned());
        self.add(
            "left-out-return",
            Action::One(Run::boot(Image::Example("hello".to_owned()), short, left_out)),
        );
        let dies = Image::Test("dies".to_owned());
        let line = format!("{short} --exact {CASE}");
        self.add(
            "left-out-panic",
            Action::One(Run::boot(dies, &line, wanted(format!("test {CASE} ... ok")))),
        );
        // Stops go to each CPU by itself there.
        let stopping = Image::Test("stopping".to_owned());
        let line = format!("--smp 2 {PATIENT} --skip a_hundred_thousand");
        let run = Run::boot(stopping, &line, Wanted::default());
        self.add("left-out-stopping", Action::One(run.with_args("ghost=200")));
    }

    fn idle(&mut self, host: &Host) {
        let lines = vec!["cpus: 4 online of 4".to_owned(), "timed out after".to_owned()];
        let wanted = Wanted { code: code::TIMED_OUT, lines, last: None, cpu: Some(50) };
        // the last ten of these seconds are measured: the boot is over by then
        let run = Run::boot(Image::Main, "--smp 4 --timeout 20 --args run=idle", wanted);
        self.add("idle", Action::One(run)).skip.clone_from(&host.no_cpu_time);
    }

    /// No operation takes many more instructions than it did.
    fn figures(&mut self) {
        let line = format!("--mode icount --compare {KNOWN_FIGURES}");
        let run = Run::boot(Image::Bench(FIGURES.to_owned()), &line, Wanted::default());
        self.add("bench-icount", Action::One(run));
    }

    fn old_qemu(&mut self, host: &Host) {
        let path = host.old_qemu.as_ref().map(|path| path.display().to_string());
        let lines = vec!["round 200 of 200".to_owned()];
        let wanted = Wanted { code: 0, lines, last: Some("gzero: ok"), cpu: None };
        let mut run = Run::boot(Image::Release, "--smp 4", wanted).with_args(SKYNET);
        run.args.extend(["--qemu".to_owned(), path.clone().unwrap_or_default()]);
        let skip = path.is_none().then(|| "GZERO_QEMU_OLD names no QEMU".to_owned());
        self.add("old-qemu-skynet-200-times", Action::One(run)).skip.clone_from(&skip);
        for image in ["preemption", "stopping"] {
            let line = format!("--smp 2 {PATIENT}");
            let mut run = Run::boot(Image::Test(image.to_owned()), &line, Wanted::default());
            run.args.extend(["--qemu".to_owned(), path.clone().unwrap_or_default()]);
            self.add(&format!("old-qemu-{image}"), Action::One(run)).skip.clone_from(&skip);
        }
    }
}

/// A run of the main program where all was right.
fn ok(cpus: u32) -> Wanted {
    let lines = vec![format!("cpus: {cpus} online of {cpus}")];
    Wanted { code: 0, lines, last: Some("gzero: ok"), cpu: None }
}

/// Names of the Rust sources in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sources =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let mut names: Vec<String> =
        sources.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_the_matrix_occurs() {
        for value in
            ["--smp 1 ", "--smp 2 ", "--smp 4 ", "--smp 8 ", "bios", "uefi", "--cpu max", "--cpu qemu64"]
        {
            assert!(MACHINES.iter().any(|(_, options)| options.contains(value)), "{value}");
        }
    }

    #[test]
    fn names_are_unique_and_what_cannot_be_done_is_skipped() {
        let root = tempfile::tempdir().expect("a folder");
        let tests = root.path().join("tests/tests");
        fs::create_dir_all(&tests).expect("made");
        for name in ["park.rs", "must_fail.rs", "dies.rs", "notes.md"] {
            fs::write(tests.join(name), "").expect("written");
        }
        let host = Host { root: root.path().to_owned(), qemu: Some(7), ..Host::default() };
        let steps = steps(&host);
        let mut names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with("test-park-")).count(), MACHINES.len());
        assert_eq!(names.iter().filter(|name| name.starts_with("test-must_fail-")).count(), 1);
        assert_eq!(names.iter().filter(|name| name.starts_with("test-dies-")).count(), FAST.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), steps.len());
        let skipped: Vec<&str> =
            steps.iter().filter(|step| step.skip.is_some()).map(|step| step.name.as_str()).collect();
        let old = ["old-qemu-skynet-200-times", "old-qemu-preemption", "old-qemu-stopping"];
        assert_eq!(skipped, [&["run-smp288"][..], &old].concat());
    }
}
