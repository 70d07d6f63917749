package steer

// Policy to instructions: each rule becomes a run of comparisons that jump to the
// next rule, for IPv4 and IPv6 apart. The meaning is ipsec.ACE.Matches and
// ipsec.Ruleset.Match, to the letter.

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/asm"

	"getvpn/ipsec"
)

// passesAll reports that no packet can be dropped or protected.
func passesAll(r *ipsec.Ruleset) bool {
	for i := range r.Rules {
		if v := r.Rules[i].Verdict; v == ipsec.Drop || v == ipsec.Protect {
			return false
		}
	}
	return r.Default == ipsec.Pass
}

// check refuses a ruleset that would run in circles.
func check(r *ipsec.Ruleset) error {
	if len(r.Rules) > maxRules {
		return fmt.Errorf("steer: %d rules, at most %d", len(r.Rules), maxRules)
	}
	if r.DefaultReason >= ipsec.NumDropReasons {
		return fmt.Errorf("steer: drop reason %d doesn't exist", r.DefaultReason)
	}
	for i := range r.Rules {
		if v := &r.Rules[i]; v.Verdict == ipsec.Next && (v.Goto <= i || v.Goto > len(r.Rules)) {
			return fmt.Errorf("steer: rule %d goes on at rule %d of %d", i, v.Goto, len(r.Rules))
		} else if v.Reason >= ipsec.NumDropReasons {
			return fmt.Errorf("steer: rule %d: drop reason %d doesn't exist", i, v.Reason)
		}
	}
	if r.Default == ipsec.Next {
		return fmt.Errorf("steer: a default can't be %v", r.Default)
	}
	return nil
}

// rules emits the list for one family. It ends in jumps to "pass", "drop" and
// "protect" with the rule's index in R1 (the number of rules for the default) and
// the reason of a drop in R2.
func (b *builder) rules(r *ipsec.Ruleset, fam ipsec.Family) {
	at := func(i int) string { return fmt.Sprintf("rule%d_%d", fam, i) }
	verdict := func(i int, v ipsec.Verdict, why ipsec.DropReason, next int) {
		switch v {
		case ipsec.Next:
			b.jump(at(next))
			return
		case ipsec.Drop:
			b.add(asm.Mov.Imm(asm.R2, int32(why)))
		}
		b.add(asm.Mov.Imm(asm.R1, int32(i)))
		switch v {
		case ipsec.Pass:
			b.jump("pass")
		case ipsec.Drop:
			if why == ipsec.DropClearInbound && b.clear != "" {
				b.jump(b.clear)
			} else {
				b.jump("drop")
			}
		case ipsec.Protect:
			b.jump("protect")
		}
	}
	for i := range r.Rules {
		b.label(at(i))
		rule := &r.Rules[i]
		if b.match(&rule.ACE, fam, at(i+1), fmt.Sprintf("hit%d_%d", fam, i)) {
			verdict(i, rule.Verdict, rule.Reason, rule.Goto)
		}
	}
	b.label(at(len(r.Rules)))
	verdict(len(r.Rules), r.Default, r.DefaultReason, 0)
}

// match emits an entry's comparisons: falls through on a match. False: it can never
// match in this family, nothing was emitted.
func (b *builder) match(e *ipsec.ACE, fam ipsec.Family, miss, hit string) bool {
	is4 := fam == ipsec.IPv4
	// As in ipsec.ACE.Matches, whatever isn't IPv4 is IPv6.
	if (e.Family == ipsec.IPv4) != is4 ||
		!e.Src.IsAny() && e.Src.Addr.Is4() != is4 || !e.Dst.IsAny() && e.Dst.Addr.Is4() != is4 {
		return false
	}
	if e.Proto != 0 {
		b.add(asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte), asm.JNE.Imm32(asm.R1, int32(e.Proto), miss))
	}
	src, dst := int16(slotSrc4), int16(slotDst4)
	if !is4 {
		src, dst = slotSrc6, slotDst6
	}
	b.address(e.Src, src, miss)
	b.address(e.Dst, dst, miss)
	if !e.NamesPorts() {
		return true
	}
	if e.Action == ipsec.Permit {
		b.add(asm.JNE.Imm(regNoL4, 0, hit))
	} else {
		b.add(asm.JNE.Imm(regNoL4, 0, miss))
	}
	if e.HasICMPType {
		b.add(asm.LoadMem(asm.R1, asm.RFP, slotType, asm.Byte), asm.JNE.Imm32(asm.R1, int32(e.ICMPType), miss))
	}
	b.port(e.SrcPort, slotPorts, miss)
	b.port(e.DstPort, slotPorts+2, miss)
	b.label(hit)
	return true
}

func (b *builder) address(m ipsec.AddrMatch, fp int16, miss string) {
	if m.IsAny() {
		return
	}
	addr, mask := m.Addr.AsSlice(), m.Mask.AsSlice()
	for i := 0; i < len(addr); i += 4 {
		k := net32(mask[i:])
		if k == 0 {
			continue
		}
		if k == -1 && i%8 == 0 && i+8 <= len(addr) && net32(mask[i+4:]) == -1 {
			b.add(asm.LoadMem(asm.R1, asm.RFP, fp+int16(i), asm.DWord),
				asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint64(addr[i:])), asm.DWord),
				asm.JNE.Reg(asm.R1, asm.R2, miss))
			i += 4
			continue
		}
		b.add(asm.LoadMem(asm.R1, asm.RFP, fp+int16(i), asm.Word))
		if k != -1 {
			b.add(asm.And.Imm32(asm.R1, k))
		}
		b.add(asm.JNE.Imm32(asm.R1, net32(addr[i:])&k, miss))
	}
}

func (b *builder) port(m ipsec.PortMatch, fp int16, miss string) {
	if m.Op == ipsec.PortAny || m.Op > ipsec.PortRange {
		return
	}
	b.add(asm.LoadMem(asm.R1, asm.RFP, fp, asm.Half))
	switch m.Op {
	case ipsec.PortEq:
		b.add(asm.JNE.Imm32(asm.R1, net16(m.Lo), miss))
		return
	case ipsec.PortNeq:
		b.add(asm.JEq.Imm32(asm.R1, net16(m.Lo), miss))
		return
	}
	b.add(asm.HostTo(asm.BE, asm.R1, asm.Half))
	switch m.Op {
	case ipsec.PortLt:
		b.add(asm.JGE.Imm32(asm.R1, int32(m.Lo), miss))
	case ipsec.PortGt:
		b.add(asm.JLE.Imm32(asm.R1, int32(m.Lo), miss))
	case ipsec.PortRange:
		b.add(asm.JLT.Imm32(asm.R1, int32(m.Lo), miss), asm.JGT.Imm32(asm.R1, int32(m.Hi), miss))
	}
}
