package steer

// The ingress program of a protected interface and the socket filter of its ring
// share the recognition of what is ours: ESP, its fragments, ICMP errors about it.

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"getvpn/ipsec"
)

// What the fragment map says of a datagram whose first fragment was seen.
const (
	fragTaken = 1 // our ESP
	fragGDOI  = 2 // our GDOI
)

// UDP ports of GDOI and of its NAT traversal.
const (
	portGDOI = 848
	portNATT = 4500
)

func ingressSpec(m *maps, cfg, count *ebpf.Map, r *ipsec.Ruleset) (*ebpf.ProgramSpec, error) {
	b := newBuilder()
	b.add(asm.Mov.Reg(regCtx, asm.R1))
	b.config(asm.R2, cfg, cfgMark)
	b.add(
		asm.LoadMem(asm.R1, regCtx, skbMark, asm.Word),
		asm.Mov.Imm(asm.R7, 0),
		asm.JEq.Reg(asm.R1, asm.R2, "unmark"),
		asm.Xor.Imm32(asm.R2, -taggedMark),
		asm.JNE.Reg(asm.R1, asm.R2, "judge"),
		asm.LoadMem(asm.R7, regCtx, skbHash, asm.Word),
	)
	b.config(asm.R1, cfg, cfgTag)
	b.add(asm.And.Imm(asm.R1, 31), asm.LSh.Reg(asm.R7, asm.R1))
	b.callCtx(asm.FnSetHashInvalid)
	b.label("unmark")
	b.add(asm.StoreMem(regCtx, skbMark, asm.R7, asm.Word))
	b.jump("injected")
	b.label("judge")
	// Without policy what isn't plain passes: nothing is protected by dropping it.
	odd, badType := "malformed", "badType"
	if passesAll(r) {
		odd, badType = "control", "control"
	}
	b.dispatch("control", odd)
	b.label("other")
	b.closedList("control", "control", badType)
	for _, fam := range []ipsec.Family{ipsec.IPv4, ipsec.IPv6} {
		s, v6 := "4", fam == ipsec.IPv6
		if v6 {
			s = "6"
		}
		b.label("ip" + s)
		if v6 {
			b.parse6(odd)
			b.neighbour("control")
		} else {
			b.parse4(odd)
		}
		b.ours(m, v6, "isRest"+s, "isESP"+s, "taken", "isUDP"+s, "rules"+s)
		b.label("isRest" + s)
		b.fragKey(v6)
		b.lookup(m.frags, slotAddr)
		b.add(
			asm.JEq.Imm(asm.R0, 0, "rules"+s),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
			asm.JEq.Imm(asm.R1, fragTaken, "taken"),
		)
		b.jump("control")
		b.label("isESP" + s)
		b.add(asm.JNE.Imm(regSpare, fragFirst, "taken"))
		b.remember(m, v6, fragTaken)
		b.jump("taken")
		b.label("isUDP" + s)
		b.add(
			asm.JNE.Imm(regNoL4, 0, "rules"+s),
			asm.LoadMem(asm.R1, asm.RFP, slotPorts+2, asm.Half),
			asm.JEq.Imm(asm.R1, net16(portGDOI), "isPort"+s),
			asm.JNE.Imm(asm.R1, net16(portNATT), "rules"+s),
		)
		b.label("isPort" + s)
		b.addresses(v6)
		b.lookup(m.local, slotAddr2)
		b.add(
			asm.JEq.Imm(asm.R0, 0, "rules"+s),
			asm.JNE.Imm(regSpare, fragFirst, "control"),
		)
		b.remember(m, v6, fragGDOI)
		b.jump("control")
		b.label("rules" + s)
		b.clear = "clear" + s
		b.rules(r, fam)
		b.clearDrops(m, v6)
	}
	b.finish(count, map[string]int32{"injected": statInjected, "control": statControl, "taken": statTaken}, nil)
	return b.spec("getvpn_ingress", ebpf.SchedCLS)
}

// ours tells parsed packets apart: rest for a non-first fragment of any protocol,
// esp for ESP with one of our SPIs, quote for an ICMP error about such, udp, else.
func (b *builder) ours(m *maps, v6 bool, rest, esp, quote, udp, other string) {
	s, icmp := "4", int32(protoICMP)
	if v6 {
		s, icmp = "6", protoICMPv6
	}
	b.add(
		asm.JEq.Imm(regSpare, fragRest, rest),
		asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte),
		asm.JEq.Imm(asm.R1, protoUDP, udp),
		asm.JEq.Imm(asm.R1, icmp, "icmp"+s),
		asm.JNE.Imm(asm.R1, protoESP, other),
		asm.LoadMem(asm.R2, asm.RFP, slotEnd, asm.DWord),
		asm.Mov.Reg(asm.R3, regL4),
		asm.Add.Imm(asm.R3, 4),
		asm.JGT.Reg(asm.R3, asm.R2, other),
	)
	b.load(regL4, 0, slotSPI, 4, other)
	b.lookup(m.spis, slotSPI)
	b.add(asm.JNE.Imm(asm.R0, 0, esp))
	b.jump(other)

	b.label("icmp" + s)
	b.add(asm.JNE.Imm(regNoL4, 0, other), asm.LoadMem(asm.R1, asm.RFP, slotType, asm.Byte))
	if v6 {
		// Unreachable, too big, time exceeded (RFC 4443 §3).
		b.add(asm.JLT.Imm(asm.R1, 1, other), asm.JGT.Imm(asm.R1, 3, other))
		b.load(regL4, 8, slotQuote, 40, other)
		b.add(
			asm.LoadMem(asm.R1, asm.RFP, slotQuote, asm.Byte),
			asm.RSh.Imm(asm.R1, 4),
			asm.JNE.Imm(asm.R1, 6, other),
			asm.LoadMem(asm.R1, asm.RFP, slotQuote+6, asm.Byte),
			asm.JEq.Imm(asm.R1, protoESP, "quoteESP"),
			asm.JNE.Imm(asm.R1, extFragment, other),
		)
		b.load(regL4, 48, slotExt, 8, other)
		b.add(
			asm.LoadMem(asm.R1, asm.RFP, slotExt, asm.Byte),
			asm.JNE.Imm(asm.R1, protoESP, other),
			asm.LoadMem(asm.R1, asm.RFP, slotExt+2, asm.Half),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			asm.RSh.Imm(asm.R1, 3),
			asm.JNE.Imm(asm.R1, 0, other),
			asm.Add.Imm(regL4, 8),
		)
		b.label("quoteESP")
		b.load(regL4, 48, slotSPI, 4, other)
	} else {
		// Unreachable (also "fragmentation needed"), time exceeded (RFC 792).
		b.add(asm.JEq.Imm(asm.R1, 3, "quote4"), asm.JNE.Imm(asm.R1, 11, other))
		b.label("quote4")
		b.load(regL4, 8, slotQuote, 20, other)
		b.add(
			asm.LoadMem(asm.R1, asm.RFP, slotQuote+9, asm.Byte),
			asm.JNE.Imm(asm.R1, protoESP, other),
			asm.LoadMem(asm.R1, asm.RFP, slotQuote+6, asm.Half),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			asm.And.Imm(asm.R1, 0x1fff),
			asm.JNE.Imm(asm.R1, 0, other),
			asm.LoadMem(asm.R2, asm.RFP, slotQuote, asm.Byte),
			asm.Mov.Reg(asm.R1, asm.R2),
			asm.RSh.Imm(asm.R1, 4),
			asm.JNE.Imm(asm.R1, 4, other),
			asm.And.Imm(asm.R2, 15),
			asm.LSh.Imm(asm.R2, 2),
			asm.Add.Reg(asm.R2, regL4),
		)
		b.load(asm.R2, 8, slotSPI, 4, other)
	}
	b.lookup(m.spis, slotSPI)
	b.add(asm.JNE.Imm(asm.R0, 0, quote))
	b.jump(other)
}

// fragKey fills the key that names a fragmented datagram (RFC 791, RFC 8200 §4.5):
// addresses, identification, protocol. The extension walk has put an IPv6
// identification in its slot.
func (b *builder) fragKey(v6 bool) {
	b.addresses(v6)
	if !v6 {
		b.add(asm.LoadMem(asm.R1, asm.RFP, slotHdr+4, asm.Half),
			asm.StoreMem(asm.RFP, slotID, asm.R1, asm.Word))
	} else {
		b.add(asm.LoadMem(asm.R1, asm.RFP, slotFragID, asm.Word),
			asm.StoreMem(asm.RFP, slotID, asm.R1, asm.Word))
	}
	b.add(asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte),
		asm.StoreMem(asm.RFP, slotFProt, asm.R1, asm.Word))
}

// remember stores what the rest of this datagram's fragments are.
func (b *builder) remember(m *maps, v6 bool, what int64) {
	b.fragKey(v6)
	b.add(
		asm.StoreImm(asm.RFP, slotRule, what, asm.Word),
		asm.LoadMapPtr(asm.R1, m.frags.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, slotAddr),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, slotRule),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	)
}

// ringSpec is the socket filter of a receive ring. It takes every non-first ESP
// fragment, since fragments may overtake the first one; reassembly tells foreign
// ones apart by never seeing their start.
func ringSpec(m *maps, cfg *ebpf.Map) (*ebpf.ProgramSpec, error) {
	b := newBuilder()
	b.add(asm.Mov.Reg(regCtx, asm.R1))
	b.config(asm.R2, cfg, cfgMark)
	b.add(
		asm.LoadMem(asm.R1, regCtx, skbMark, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, "no"),
		asm.Xor.Imm32(asm.R2, -taggedMark),
		asm.JEq.Reg(asm.R1, asm.R2, "no"),
		asm.LoadMem(asm.R1, regCtx, skbPktType, asm.Word),
		asm.JGT.Imm(asm.R1, 2, "no"), // 0 host, 1 broadcast, 2 multicast
	)
	b.dispatch("no", "no")
	for _, s := range []string{"4", "6"} {
		b.label("ip" + s)
		if s == "4" {
			b.parse4("no")
		} else {
			b.parse6("no")
		}
		b.ours(m, s == "6", "rest"+s, "yes", "yes", "no", "no")
		b.label("rest" + s)
		b.add(asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte), asm.JEq.Imm(asm.R1, protoESP, "yes"))
		b.jump("no")
	}
	b.label("yes")
	b.add(asm.Mov.Imm32(asm.R0, -1), asm.Return())
	b.label("other")
	b.label("no")
	b.add(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return b.spec("getvpn_ring", ebpf.SocketFilter)
}
