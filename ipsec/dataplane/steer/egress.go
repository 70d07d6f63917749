package steer

// The two small programs: egress of the protected interface (own sockets pass, then
// policy decides) and ingress of the TAP (decrypted packets go to the interface).

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"getvpn/ipsec"
)

// verdictRedirect is what bpf_redirect answers (TC_ACT_REDIRECT).
const verdictRedirect = 7

// Fields of an interface's configuration, a value of one-entry array map.
const (
	cfgMark = 0  // secret mark of decrypted packets
	cfgTap  = 4  // ifindex of the TAP
	cfgWan  = 8  // ifindex of the interface
	cfgTag  = 12 // TagBits.word
	cfgSize = 16
)

// config reads a field of the configuration into r.
func (b *builder) config(r asm.Register, cfg *ebpf.Map, field int16) {
	b.add(asm.LoadMapValue(r, cfg.FD(), 0), asm.LoadMem(r, r, field, asm.Word))
}

// taggedMark, in a mark that is otherwise the secret one, says that the frame's hash is
// its tag.
const taggedMark = 1 << 31

// TagBits says which bits of a packet's mark are its security group tag: Width of them
// (0: none, at most 16) above Shift.
type TagBits struct{ Width, Shift uint8 }

// word is the form in the configuration.
func (t TagBits) word() uint32 {
	if t.Width == 0 {
		return 0
	}
	return uint32(t.Width)<<8 | uint32(t.Shift)
}

// tagOut puts the tag in a packet's mark beside the frame, where a VLAN tag would be:
// the TAP's ring shows that, and nothing else that a program may write. A priority tag
// that is there goes, since it would be taken for one.
func (b *builder) tagOut(cfg *ebpf.Map) {
	b.config(asm.R9, cfg, cfgTag)
	b.add(
		asm.JEq.Imm(asm.R9, 0, "tagged"),
		asm.LoadMem(asm.R1, regCtx, skbVlanPresent, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "noPriority"),
	)
	b.callCtx(asm.FnSkbVlanPop)
	b.label("noPriority")
	b.add(
		asm.LoadMem(asm.R3, regCtx, skbMark, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.And.Imm(asm.R1, 31),
		asm.RSh.Reg(asm.R3, asm.R1),
		asm.RSh.Imm(asm.R9, 8),
		asm.And.Imm(asm.R9, 31),
		asm.Mov.Imm(asm.R1, 1),
		asm.LSh.Reg(asm.R1, asm.R9),
		asm.Sub.Imm(asm.R1, 1),
		asm.And.Reg(asm.R3, asm.R1),
		asm.JEq.Imm(asm.R3, 0, "tagged"),
		asm.Mov.Imm(asm.R2, net16(etherVLAN)),
	)
	b.callCtx(asm.FnSkbVlanPush)
	b.label("tagged")
}

func egressSpec(m *maps, cfg, count *ebpf.Map, r *ipsec.Ruleset) (*ebpf.ProgramSpec, error) {
	b := newBuilder()
	b.add(asm.Mov.Reg(regCtx, asm.R1))
	if passesAll(r) {
		b.add(asm.Mov.Imm(asm.R1, int32(len(r.Rules))))
		b.jump("pass")
	}
	b.callCtx(asm.FnGetSocketCookie)
	b.add(
		asm.JEq.Imm(asm.R0, 0, "judge"),
		asm.StoreMem(asm.RFP, slotKey8, asm.R0, asm.DWord),
	)
	b.lookup(m.sockets, slotKey8)
	b.add(asm.JNE.Imm(asm.R0, 0, "own"))
	b.label("judge")
	b.dispatch("control", "malformed")
	b.label("other")
	b.closedList("control", "control", "badType")
	b.label("ip4")
	b.parse4("malformed")
	b.rules(r, ipsec.IPv4)
	b.label("ip6")
	b.parse6("malformed")
	b.neighbour("control")
	b.rules(r, ipsec.IPv6)
	b.finish(count, map[string]int32{"own": statOwn, "control": statControl}, func() {
		b.tagOut(cfg)
		b.config(asm.R1, cfg, cfgTap)
		b.add(asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
	})
	return b.spec("getvpn_egress", ebpf.SchedCLS)
}

// tapSpec marks a frame and lets the interface receive it. The mark lives until the
// interface's ingress program takes it off. A frame's VLAN tag is its security group
// tag, which goes on in the hash: of what a program may write, that alone survives the
// way to the other program beside the mark.
func tapSpec(cfg *ebpf.Map) (*ebpf.ProgramSpec, error) {
	b := newBuilder()
	b.add(asm.Mov.Reg(regCtx, asm.R1))
	b.config(asm.R7, cfg, cfgMark)
	b.add(
		asm.LoadMem(asm.R1, regCtx, skbVlanPresent, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "mark"),
		asm.LoadMem(asm.R8, regCtx, skbVlanTCI, asm.Word),
	)
	b.callCtx(asm.FnSkbVlanPop)
	b.add(asm.Mov.Reg(asm.R2, asm.R8))
	b.callCtx(asm.FnSetHash)
	b.add(asm.Xor.Imm32(asm.R7, -taggedMark))
	b.label("mark")
	b.add(asm.StoreMem(regCtx, skbMark, asm.R7, asm.Word))
	b.config(asm.R1, cfg, cfgWan)
	b.add(asm.Mov.Imm(asm.R2, 1), // BPF_F_INGRESS
		asm.FnRedirect.Call(), asm.Return())
	return b.spec("getvpn_tap", ebpf.SchedCLS)
}
