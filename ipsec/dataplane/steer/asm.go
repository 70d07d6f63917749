package steer

// An assembler for programs whose jumps all go forward. It leaves out what nobody
// can reach, since the verifier refuses such instructions: after an unconditional
// jump nothing is emitted until a label that some jump names.

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

type builder struct {
	ins   asm.Instructions
	used  map[string]bool
	alias map[string]string // labels that share an instruction: later to first
	at    string            // label of the next instruction
	dead  bool
	clear string // where what is dropped as clear goes, if not to "drop"
}

func newBuilder() *builder {
	return &builder{used: map[string]bool{}, alias: map[string]string{}}
}

// add emits instructions; a jump's target counts as reachable from here on.
func (b *builder) add(ins ...asm.Instruction) {
	for _, i := range ins {
		if b.dead {
			return
		}
		if b.at != "" {
			i, b.at = i.WithSymbol(b.at), ""
		}
		op := i.OpCode.JumpOp()
		if i.OpCode.Class().IsJump() && op != asm.Call {
			if r := i.Reference(); r != "" {
				b.used[r] = true
			}
			b.dead = op == asm.Ja || op == asm.Exit
		}
		b.ins = append(b.ins, i)
	}
}

// label marks the next instruction.
func (b *builder) label(l string) {
	if b.dead && !b.used[l] {
		return
	}
	b.dead = false
	if b.at != "" {
		b.alias[l] = b.at
		return
	}
	b.at = l
}

func (b *builder) jump(l string) { b.add(asm.Ja.Label(l)) }

// call emits a helper call with ctx (R6) as the first argument.
func (b *builder) callCtx(fn asm.BuiltinFunc) {
	b.add(asm.Mov.Reg(asm.R1, asm.R6), fn.Call())
}

// load copies n octets of the packet, at the offset in off (or at if off is RFP),
// to the stack at fp; a packet that hasn't them goes to fail.
func (b *builder) load(off asm.Register, at int32, fp int16, n int32, fail string) {
	b.add(asm.Mov.Reg(asm.R1, asm.R6))
	if off == asm.RFP {
		b.add(asm.Mov.Imm(asm.R2, at))
	} else {
		b.add(asm.Mov.Reg(asm.R2, off))
		if at != 0 {
			b.add(asm.Add.Imm(asm.R2, at))
		}
	}
	b.add(
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(fp)),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, fail),
	)
}

// lookup finds the key at fp in the map; R0 is the value or 0.
func (b *builder) lookup(m *ebpf.Map, fp int16) {
	b.add(asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(fp)),
		asm.FnMapLookupElem.Call())
}

// spec finishes the program.
func (b *builder) spec(name string, t ebpf.ProgramType) (*ebpf.ProgramSpec, error) {
	if b.at != "" {
		return nil, fmt.Errorf("steer: program %s ends at label %s", name, b.at)
	}
	for n := range b.ins {
		if r := b.ins[n].Reference(); r != "" {
			for b.alias[r] != "" {
				r = b.alias[r]
			}
			b.ins[n] = b.ins[n].WithReference(r)
		}
	}
	return &ebpf.ProgramSpec{Name: name, Type: t, Instructions: b.ins, License: "Apache-2.0"}, nil
}

// net16 and net32 are the values that a native load of these octets gives.
func net16(v uint16) int32 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return int32(binary.NativeEndian.Uint16(b[:]))
}

func net32(b []byte) int32 { return int32(binary.NativeEndian.Uint32(b)) }
