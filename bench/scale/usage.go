package main

// What a process has used.

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used since its start: processor time, and memory now
// and at its peak in octets.
type Usage struct {
	CPU             time.Duration
	Resident, Peak  int64
	Heap, Collected uint64 // live heap after a collection; octets allocated in all
}

// usage reads the process's. settle collects garbage first and gives free memory back,
// so that what is left is in use.
func usage(settle bool) (u Usage, err error) {
	if settle {
		runtime.GC()
		debug.FreeOSMemory()
	}
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return u, fmt.Errorf("getrusage: %w", err)
	}
	u.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap, u.Collected = m.HeapAlloc, m.TotalAlloc
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		switch {
		case strings.HasPrefix(line, "VmRSS:"):
			fmt.Sscanf(line, "VmRSS: %d kB", &kb)
			u.Resident = kb << 10
		case strings.HasPrefix(line, "VmHWM:"):
			fmt.Sscanf(line, "VmHWM: %d kB", &kb)
			u.Peak = kb << 10
		}
	}
	return u, nil
}
