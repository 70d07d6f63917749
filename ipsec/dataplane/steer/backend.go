package steer

// Where programs hang. Two back ends behind one interface: tcx links (kernel 6.6 and
// later), clsact with cls_bpf (before).

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

type direction uint8

const (
	ingress direction = iota
	egress
)

func (d direction) String() string {
	if d == egress {
		return "egress"
	}
	return "ingress"
}

// point is a hook; pin is the path of its link's pin, empty without a Dir.
type point struct {
	ifindex int
	dir     direction
	pin     string
}

type backend interface {
	name() string
	// attach hangs a program at a hook, or atomically replaces the one that we, or
	// a dead process of ours, hung there.
	attach(at point, p *ebpf.Program) error
	// detach removes it. Nothing there, or no such device, is no error.
	detach(at point) error
	// alive reports that a program of ours hangs there.
	alive(at point) bool
	// close forgets what is attached, without detaching it where that is possible.
	close()
}

// openBackend takes the best back end that works, or the named one.
func openBackend(name string) (backend, error) {
	probe, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "getvpn_probe", Type: ebpf.SchedCLS,
		License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdictNext), asm.Return()}})
	if err != nil {
		return nil, fmt.Errorf("steer: the kernel loads no classifier program: %w", err)
	}
	defer probe.Close()
	var why []error
	if name == "" || name == "auto" || name == "tcx" {
		if err := probeTCX(probe); err == nil {
			return newTCX(), nil
		} else {
			why = append(why, fmt.Errorf("tcx: %w", err))
		}
	}
	if name == "" || name == "auto" || name == "clsact" {
		if err := probeClsact(probe); err == nil {
			return clsact{}, nil
		} else {
			why = append(why, fmt.Errorf("clsact with cls_bpf: %w", err))
		}
	}
	if why == nil {
		return nil, fmt.Errorf("steer: no back end is called %q", name)
	}
	return nil, fmt.Errorf("steer: the kernel has no usable hook: %w", errors.Join(why...))
}

// loopback is the index of lo in every network namespace: probes hang there for a
// moment, and pass everything.
const loopback = 1
