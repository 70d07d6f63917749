package main

// What a process has used, and for what.

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used since its start: processor time, and memory now
// and at its peak in octets.
type Usage struct {
	CPU             time.Duration
	Resident, Peak  int64
	Heap, Allocated uint64 // live heap after a collection; octets allocated in all
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
	u.Heap, u.Allocated = m.HeapAlloc, m.TotalAlloc
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

// process answers what every process of a measurement is asked.
type process struct {
	path string
	cpu  *os.File
}

// Usage is the process's; settle as in usage.
func (*process) Usage(settle bool, u *Usage) (err error) {
	*u, err = usage(settle)
	return err
}

var errProfile = errors.New("no profile is being written")

// Profile starts a CPU profile. An empty path ends it, and what was allocated since the
// process began is written beside it.
func (p *process) Profile(path string, _ *struct{}) (err error) {
	if path != "" {
		if p.cpu, err = os.Create(path); err != nil {
			return err
		}
		p.path = path
		return pprof.StartCPUProfile(p.cpu)
	}
	if p.cpu == nil {
		return errProfile
	}
	pprof.StopCPUProfile()
	if err := p.cpu.Close(); err != nil {
		return err
	}
	p.cpu = nil
	f, err := os.Create(p.path + ".allocs")
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
