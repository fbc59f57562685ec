//go:build linux

package main

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// latencies are the middle, the 99th percentile and the worst.
func latencies(all []time.Duration) []figure {
	slices.Sort(all)
	at := func(part string, index int) figure {
		return figure{part: part, unit: "ns", amount: all[index].Nanoseconds(), count: 1}
	}
	n := len(all)
	return []figure{at(".p50", n/2), at(".p99", n*99/100), at(".max", n-1)}
}

// A progress is a loaded goroutine's own, on cache lines of its own.
type progress struct {
	rounds atomic.Uint64
	_      [120]byte
}

// tight calls nothing: only a signal stops it.
func tight(mine *progress, over *atomic.Bool) {
	for x := uint64(0); !over.Load(); x++ {
		mine.rounds.Store(x)
	}
}

func yielding(mine *progress, over *atomic.Bool) {
	for x := uint64(0); !over.Load(); x++ {
		mine.rounds.Store(x)
		runtime.Gosched()
	}
}

// toggleProcs changes between all Ps and all but one.
func toggleProcs(procs, round int) int {
	now := procs - (round+1)%2
	runtime.GOMAXPROCS(now)
	return now
}

func readMemStats(procs, _ int) int {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return procs
}

// stop measures calls that stop the world while all Ps but that of main have load. It waits between them until the world
// goes on: until every goroutine that has a P was seen to move, or 4 ms are over.
func stop(call func(procs, round int) int, load func(*progress, *atomic.Bool)) operation {
	return func(times, procs int) []figure {
		all := make([]progress, procs-1)
		var over atomic.Bool
		ended := make(chan bool)
		go func() {
			together(len(all), func(id int) { load(&all[id], &over) })
			ended <- true
		}()
		awaitMoves(all, len(all), 2*time.Second)
		took := make([]time.Duration, 0, times)
		for round := range times {
			began := time.Now()
			active := call(procs, round)
			took = append(took, time.Since(began))
			awaitMoves(all, active-1, 4*time.Millisecond)
		}
		over.Store(true)
		<-ended
		return latencies(took)
	}
}

func awaitMoves(all []progress, wanted int, limit time.Duration) {
	before := make([]uint64, len(all))
	for i := range all {
		before[i] = all[i].rounds.Load()
	}
	for began := time.Now(); time.Since(began) < limit; {
		moved := 0
		for i := range all {
			if all[i].rounds.Load() != before[i] {
				moved++
			}
		}
		if moved >= wanted {
			return
		}
	}
}

func sleep1ms(times, _ int) []figure {
	took := make([]time.Duration, 0, times)
	// The emulator translates what runs for the first time: one call is not counted.
	time.Sleep(time.Millisecond)
	for range times {
		began := time.Now()
		time.Sleep(time.Millisecond)
		took = append(took, time.Since(began))
	}
	return latencies(took)
}

// preemptLatency is how late main runs, due each 20 ms, while another has the only P and calls nothing.
func preemptLatency(times, _ int) []figure {
	const period = 20 * time.Millisecond
	var mine progress
	var over atomic.Bool
	ended := make(chan bool)
	go func() {
		tight(&mine, &over)
		ended <- true
	}()
	late := make([]time.Duration, 0, times)
	due := time.Now()
	for range times {
		for now := time.Now(); !due.After(now); {
			due = due.Add(period)
		}
		time.Sleep(time.Until(due))
		late = append(late, time.Since(due))
	}
	over.Store(true)
	<-ended
	return latencies(late)
}
