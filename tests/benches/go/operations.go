//go:build linux

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname
)

// sink keeps results that nobody needs from being computed away.
var sink uint64

// perOperation is what so many operations took since then.
func perOperation(began time.Time, times int) []figure {
	took := time.Since(began)
	unit := "ns/op"
	if icount() {
		unit = "instructions/op"
	}
	return []figure{{unit: unit, amount: took.Nanoseconds(), count: int64(times)}}
}

// together starts goroutines, numbered from 0, and waits for all of them.
func together(goroutines int, function func(id int)) {
	var group sync.WaitGroup
	group.Add(goroutines)
	for id := range goroutines {
		go func() {
			function(id)
			group.Done()
		}()
	}
	group.Wait()
}

// refLoop is six dependent steps of arithmetic each time.
//
//go:noinline
func refLoop(times, _ int) []figure {
	began := time.Now()
	x := uint64(88172645463325252)
	for range times {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink = x
	return perOperation(began, times)
}

func refAtomicAdd(times, _ int) []figure {
	var value atomic.Uint64
	began := time.Now()
	for range times {
		value.Add(1)
	}
	return perOperation(began, times)
}

func refNanotime(times, _ int) []figure {
	began := time.Now()
	for range times {
		sink += uint64(nanotime())
	}
	return perOperation(began, times)
}

// nanotime is the runtime's clock, without the time of day that comes with time.Now.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

func yield(times, _ int) []figure { return yielders(times, 2) }

func yieldMany(times, _ int) []figure { return yielders(times, 1000) }

// yielders yield in turns while main waits.
func yielders(times, goroutines int) []figure {
	each := times / goroutines
	began := time.Now()
	together(goroutines, func(int) {
		for range each {
			runtime.Gosched()
		}
	})
	return perOperation(began, each*goroutines)
}

func spawnJoin(times, _ int) []figure {
	var group sync.WaitGroup
	group.Add(times)
	began := time.Now()
	for range times {
		go group.Done()
	}
	group.Wait()
	return perOperation(began, times)
}

// skynet is a tree of goroutines, ten below each. A leaf sends its number to its parent, the others send the sums. The
// leaves are a power of ten: of a part of them, the next one below.
func skynet(most, _ int) []figure {
	leaves, goroutines := 1, 1
	for leaves*10 <= most {
		leaves *= 10
		goroutines += leaves
	}
	result := make(chan int)
	began := time.Now()
	go tree(result, 0, leaves)
	sum := <-result
	figures := perOperation(began, goroutines)
	if sum != leaves*(leaves-1)/2 {
		panic("skynet: wrong sum")
	}
	return figures
}

func tree(parent chan<- int, first, size int) {
	if size == 1 {
		parent <- first
		return
	}
	results := make(chan int)
	for child := range 10 {
		go tree(results, first+child*(size/10), size/10)
	}
	sum := 0
	for range 10 {
		sum += <-results
	}
	parent <- sum
}

// chanPingPong goes there and back: two sends, two receives, two switches.
func chanPingPong(times, _ int) []figure {
	ping, pong := make(chan int), make(chan int)
	began := time.Now()
	together(2, func(id int) {
		if id == 0 {
			for range times {
				pong <- <-ping
			}
			return
		}
		for i := range times {
			ping <- i
			<-pong
		}
	})
	return perOperation(began, times)
}

func chanBuffered(times, _ int) []figure {
	values := make(chan int, 128)
	began := time.Now()
	together(2, func(id int) {
		if id == 0 {
			for i := range times {
				values <- i
			}
			close(values)
			return
		}
		sum := 0
		for value := range values {
			sum += value
		}
		sink += uint64(sum)
	})
	return perOperation(began, times)
}

// select2 has two senders, each with a channel of its own, and one that takes from either.
func select2(times, _ int) []figure {
	a, b := make(chan int), make(chan int)
	each := times / 2
	began := time.Now()
	together(3, func(id int) {
		if id > 0 {
			to := []chan int{a, b}[id-1]
			for i := range each {
				to <- i
			}
			return
		}
		sum := 0
		for range each * 2 {
			select {
			case value := <-a:
				sum += value
			case value := <-b:
				sum += value
			}
		}
		sink += uint64(sum)
	})
	return perOperation(began, each*2)
}

// mutexContended has eight goroutines that yield while they hold the lock.
func mutexContended(times, _ int) []figure {
	const goroutines = 8
	each := times / goroutines
	var lock sync.Mutex
	count := 0
	began := time.Now()
	together(goroutines, func(int) {
		for range each {
			lock.Lock()
			count++
			runtime.Gosched()
			lock.Unlock()
		}
	})
	figures := perOperation(began, each*goroutines)
	if count != each*goroutines {
		panic("mutex_contended: an update is lost")
	}
	return figures
}

// semaHandoff has two goroutines in turns: each step is one release that readies the other, and one wait. Go's
// semaphores are its own, so locked mutexes stand in for them.
func semaHandoff(times, _ int) []figure {
	var turns [2]sync.Mutex
	turns[0].Lock()
	turns[1].Lock()
	each := times / 2
	began := time.Now()
	turns[0].Unlock()
	together(2, func(id int) {
		for range each {
			turns[id].Lock()
			turns[1-id].Unlock()
		}
	})
	return perOperation(began, each*2)
}

// condHandoff is the same by a lock and a condition.
func condHandoff(times, _ int) []figure {
	var lock sync.Mutex
	changed := sync.NewCond(&lock)
	turn, each := 0, times/2
	began := time.Now()
	together(2, func(id int) {
		for range each {
			lock.Lock()
			for turn != id {
				changed.Wait()
			}
			turn = 1 - id
			changed.Signal()
			lock.Unlock()
		}
	})
	return perOperation(began, each*2)
}

// parkedMemory is the time until so many goroutines are parked, and what each costs: all told, which is what the runtime
// has taken from the system, and for its stack and on the heap.
func parkedMemory(goroutines, _ int) []figure {
	gate := make(chan struct{})
	var started atomic.Int64
	var ended sync.WaitGroup
	ended.Add(goroutines)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	for range goroutines {
		go func() {
			started.Add(1)
			<-gate
			ended.Done()
		}()
	}
	for started.Load() != int64(goroutines) {
		runtime.Gosched()
	}
	figures := perOperation(began, goroutines)
	// until the last of them waits
	time.Sleep(20 * time.Millisecond)
	runtime.ReadMemStats(&after)
	close(gate)
	ended.Wait()
	bytes := func(part string, after, before uint64) figure {
		return figure{part: part, unit: "bytes/op", amount: int64(after - before), count: int64(goroutines)}
	}
	return append(figures, bytes(".bytes", after.Sys, before.Sys),
		bytes(".stack", after.StackInuse, before.StackInuse), bytes(".heap", after.HeapAlloc, before.HeapAlloc))
}
