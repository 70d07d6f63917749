package steer

// How the programs count: one per-CPU value of 64-bit counters a program, first the
// named ones, then one for each rule and one for the default. One lookup a packet.

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"getvpn/ipsec"
)

// Named counters: the drop reasons, then these.
const (
	statPassed = int32(ipsec.NumDropReasons) + iota
	statProtected
	statOwn
	statTaken
	statInjected
	statControl
	numStats
)

// maxRules keeps a program's counters inside what a per-CPU value can be (32 KB).
const maxRules = 3500

// finish emits the shared ends of a program. Jumps to "pass", "drop" and "protect"
// come from rules; "dropped" has a reason in R2 and no rule; each name of stats
// passes and counts under its number. out leaves a protected packet.
func (b *builder) finish(count *ebpf.Map, stats map[string]int32, out func()) {
	// R7 the program's answer, R8 the rule, R9 the named counter.
	end := func(label string, answer int32, stat asm.Instruction, ruled bool) {
		b.label(label)
		if ruled {
			b.add(asm.Mov.Reg(asm.R8, asm.R1))
		}
		b.add(stat, asm.Mov.Imm(asm.R7, answer))
		if ruled {
			b.jump("account")
		} else {
			b.jump("accountStat")
		}
	}
	reason := asm.Mov.Reg(asm.R9, asm.R2)
	end("pass", verdictNext, asm.Mov.Imm(asm.R9, statPassed), true)
	end("drop", verdictDrop, reason, true)
	end("protect", verdictRedirect, asm.Mov.Imm(asm.R9, statProtected), true)
	b.label("malformed")
	b.add(asm.Mov.Imm(asm.R2, int32(ipsec.DropMalformed)))
	b.jump("dropped")
	b.label("badType")
	b.add(asm.Mov.Imm(asm.R2, int32(ipsec.DropEtherType)))
	b.label("dropped")
	end("dropped2", verdictDrop, reason, false)
	for _, name := range []string{"own", "injected", "control"} {
		if n, ok := stats[name]; ok {
			end(name, verdictNext, asm.Mov.Imm(asm.R9, n), false)
		}
	}
	if n, ok := stats["taken"]; ok {
		end("taken", verdictDrop, asm.Mov.Imm(asm.R9, n), false)
	}

	bump := func(r asm.Register, off int16) {
		b.add(asm.LoadMem(asm.R2, r, off, asm.DWord), asm.Add.Imm(asm.R2, 1), asm.StoreMem(r, off, asm.R2, asm.DWord))
	}
	b.label("account")
	b.add(asm.StoreImm(asm.RFP, slotKey4, 0, asm.Word))
	b.lookup(count, slotKey4)
	b.add(
		asm.JEq.Imm(asm.R0, 0, "answer"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.LSh.Imm(asm.R8, 3),
		asm.Add.Reg(asm.R1, asm.R8),
	)
	bump(asm.R1, int16(numStats*8))
	b.jump("stat")
	b.label("accountStat")
	b.add(asm.StoreImm(asm.RFP, slotKey4, 0, asm.Word))
	b.lookup(count, slotKey4)
	b.add(asm.JEq.Imm(asm.R0, 0, "answer"))
	b.label("stat")
	b.add(asm.LSh.Imm(asm.R9, 3), asm.Add.Reg(asm.R0, asm.R9))
	bump(asm.R0, 0)
	b.label("answer")
	if out != nil && b.used["protect"] {
		b.add(asm.JEq.Imm(asm.R7, verdictRedirect, "out"))
	}
	b.add(asm.Mov.Reg(asm.R0, asm.R7), asm.Return())
	b.label("out")
	if out != nil {
		out()
	}
}

// newCount makes the counters of a program for n rules.
func newCount(n int) (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Name: "getvpn_count", Type: ebpf.PerCPUArray,
		KeySize: 4, ValueSize: uint32(8 * (int(numStats) + n + 1)), MaxEntries: 1})
}

// readCount sums the counters over the processors.
func readCount(m *ebpf.Map) ([]uint64, error) {
	var per [][]byte
	if err := m.Lookup(uint32(0), &per); err != nil {
		return nil, err
	}
	sum := make([]uint64, m.ValueSize()/8)
	for _, p := range per {
		for i := 0; i < len(sum) && 8*i+8 <= len(p); i++ {
			sum[i] += binary.NativeEndian.Uint64(p[8*i:])
		}
	}
	return sum, nil
}
