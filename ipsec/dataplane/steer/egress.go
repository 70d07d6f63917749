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
	cfgMark = 0 // secret mark of decrypted packets
	cfgTap  = 4 // ifindex of the TAP
	cfgWan  = 8 // ifindex of the interface
	cfgSize = 16
)

// config reads a field of the configuration into r.
func (b *builder) config(r asm.Register, cfg *ebpf.Map, field int16) {
	b.add(asm.LoadMapValue(r, cfg.FD(), 0), asm.LoadMem(r, r, field, asm.Word))
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
		b.config(asm.R1, cfg, cfgTap)
		b.add(asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
	})
	return b.spec("getvpn_egress", ebpf.SchedCLS)
}

// tapSpec marks a frame and lets the interface receive it. The mark lives until the
// interface's ingress program takes it off.
func tapSpec(cfg *ebpf.Map) (*ebpf.ProgramSpec, error) {
	b := newBuilder()
	b.add(asm.Mov.Reg(regCtx, asm.R1))
	b.config(asm.R1, cfg, cfgMark)
	b.add(asm.StoreMem(regCtx, skbMark, asm.R1, asm.Word))
	b.config(asm.R1, cfg, cfgWan)
	b.add(asm.Mov.Imm(asm.R2, 1), // BPF_F_INGRESS
		asm.FnRedirect.Call(), asm.Return())
	return b.spec("getvpn_tap", ebpf.SchedCLS)
}
