//go:build linux

// Figures measures Go's scheduler by the same operations as the image of figures of gzero, for a comparison of both.
//
// It is the first process of a Linux machine in QEMU, and the only program there; it runs as well on any Linux. For each
// operation and value of GOMAXPROCS it starts itself anew, so that nobody inherits heap, free goroutines or timers.
// What it prints is what gzero's image prints:
//
//	figure NAME PROCS UNIT AMOUNT COUNT
//
// is one repetition: so much for so many operations. Variables of the environment say what is wanted; the kernel hands
// over those of its command line that it does not know:
//
//	GZERO_MODE  icount: a nanosecond of the machine is an instruction; else nanoseconds are what they are
//	GZERO_REPS  repetitions of each operation (5)
//	GZERO_DIV   divides how often an operation is done (1)
//	GZERO_ONLY  beginnings of names, with commas; others are left out
//	GZERO_GC    on: with the collector; else there is none while an operation is measured
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// An operation is done so many times, and says what came of it.
type operation func(times, procs int) []figure

// A figure is a value of an operation in one repetition.
type figure struct {
	part   string // which of the operation's values, empty if there is one
	unit   string
	amount int64
	count  int64
}

type spec struct {
	name  string
	times int
	procs func(cpus int) []int
	// A repetition needs a process of its own.
	fresh bool
	// It is a time, which counted instructions say nothing about.
	timed bool
	run   operation
}

var specs = []spec{
	{name: "ref_loop", times: 20_000_000, procs: one, run: refLoop},
	{name: "ref_atomic_add", times: 2_000_000, procs: one, run: refAtomicAdd},
	{name: "ref_nanotime", times: 400_000, procs: one, run: refNanotime},
	{name: "yield", times: 400_000, procs: one, run: yield},
	{name: "yield_many", times: 400_000, procs: powers, run: yieldMany},
	{name: "spawn_join", times: 100_000, procs: powers, run: spawnJoin},
	{name: "skynet", times: 1_000_000, procs: powers, run: skynet},
	{name: "chan_pingpong", times: 100_000, procs: powers, run: chanPingPong},
	{name: "chan_buffered", times: 400_000, procs: powers, run: chanBuffered},
	{name: "select_2", times: 100_000, procs: powers, run: select2},
	{name: "mutex_contended", times: 100_000, procs: powers, run: mutexContended},
	{name: "sema_handoff", times: 100_000, procs: powers, run: semaHandoff},
	{name: "cond_handoff", times: 100_000, procs: powers, run: condHandoff},
	{name: "parked_memory", times: 100_000, procs: one, fresh: true, run: parkedMemory},
	{name: "stw_gomaxprocs_tight", times: 500, procs: twoAndMore, timed: true, run: stop(toggleProcs, tight)},
	{name: "stw_gomaxprocs_gosched", times: 500, procs: twoAndMore, timed: true, run: stop(toggleProcs, yielding)},
	{name: "stw_readmemstats_tight", times: 500, procs: twoAndMore, timed: true, run: stop(readMemStats, tight)},
	{name: "stw_readmemstats_gosched", times: 500, procs: twoAndMore, timed: true, run: stop(readMemStats, yielding)},
	{name: "sleep_1ms", times: 500, procs: powers, timed: true, run: sleep1ms},
	{name: "preempt_latency", times: 100, procs: one, timed: true, run: preemptLatency},
}

func one(int) []int { return []int{1} }

// powers gives the powers of two below the number of CPUs, and that number.
func powers(cpus int) []int {
	var all []int
	for procs := 1; procs < cpus; procs *= 2 {
		all = append(all, procs)
	}
	return append(all, cpus)
}

func twoAndMore(cpus int) []int {
	if cpus < 2 {
		return nil
	}
	return powers(cpus)[1:]
}

func main() {
	if name := os.Getenv("GZERO_OPERATION"); name != "" {
		measure(name)
		return
	}
	first := os.Getpid() == 1
	if first {
		must(syscall.Mount("proc", "/proc", "proc", 0, ""))
	}
	fmt.Printf("%s on Linux %s, CPUs: %d\nfigures begin\n", runtime.Version(), kernel(), runtime.NumCPU())
	for _, spec := range specs {
		if wanted(spec.name) && !(spec.timed && icount()) {
			for _, procs := range spec.procs(runtime.NumCPU()) {
				spec.start(procs)
			}
		}
	}
	fmt.Println("figures end")
	drain()
	if first {
		must(syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF))
	}
}

func icount() bool { return os.Getenv("GZERO_MODE") == "icount" }

func wanted(name string) bool {
	only := os.Getenv("GZERO_ONLY")
	for _, beginning := range strings.Split(only, ",") {
		if strings.HasPrefix(name, beginning) {
			return true
		}
	}
	return false
}

// start measures an operation in a process of its own, or in one for each repetition.
func (s spec) start(procs int) {
	processes, reps := 1, number("GZERO_REPS", 5)
	if s.fresh {
		processes, reps = reps, 1
	}
	for range processes {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "GZERO_OPERATION="+s.name, fmt.Sprint("GOMAXPROCS=", procs),
			fmt.Sprint("GZERO_REPS=", reps))
		if os.Getenv("GZERO_GC") != "on" {
			child.Env = append(child.Env, "GOGC=off")
		}
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Run(); err != nil {
			fmt.Printf("figures failed: %s at %d: %v\n", s.name, procs, err)
		}
	}
}

// measure does the repetitions, and prints when all are over: the console costs instructions too.
func measure(name string) {
	procs := runtime.GOMAXPROCS(0)
	var lines strings.Builder
	for _, spec := range specs {
		if spec.name != name {
			continue
		}
		for range number("GZERO_REPS", 5) {
			for _, f := range spec.run(max(spec.times/number("GZERO_DIV", 1), 1), procs) {
				fmt.Fprintf(&lines, "figure %s%s %d %s %d %d\n", name, f.part, procs, f.unit, f.amount, f.count)
			}
		}
	}
	fmt.Print(lines.String())
	drain()
}

func number(variable string, usual int) int {
	if value, err := strconv.Atoi(os.Getenv(variable)); err == nil && value > 0 {
		return value
	}
	return usual
}

// drain waits until the serial port has sent all, so that the next operation is alone. Where standard output is no
// terminal there is nothing to wait for.
func drain() {
	const tcsbrk = 0x5409
	syscall.Syscall(syscall.SYS_IOCTL, 1, tcsbrk, 1)
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	must(err)
	return strings.TrimSpace(string(release))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
