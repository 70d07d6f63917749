package steer

// Headers to fields, exactly as ipsec.ParseFlow: what it calls malformed jumps to
// "malformed", what it calls a flow without ports sets regNoL4.

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// dispatch jumps to "ip4", "ip6" or "other" by the ethertype, and to "tagged" for
// a frame of another VLAN. A tag with VLAN ID 0 is only a priority: the kernel takes
// such a frame as untagged, so policy does too; a second tag under it would be taken
// off later without passing here again, hence "malformed".
func (b *builder) dispatch(tagged, malformed string) {
	b.add(
		asm.LoadMem(asm.R3, regCtx, skbProtocol, asm.Word),
		asm.LoadMem(asm.R1, regCtx, skbVlanPresent, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "untagged"),
		asm.LoadMem(asm.R1, regCtx, skbVlanTCI, asm.Word),
		asm.And.Imm(asm.R1, 0xfff),
		asm.JNE.Imm(asm.R1, 0, tagged),
		asm.JEq.Imm(asm.R3, net16(etherVLAN), malformed),
		asm.JEq.Imm(asm.R3, net16(etherQinQ), malformed),
	)
	b.label("untagged")
	b.add(
		asm.JEq.Imm(asm.R3, net16(etherIPv4), "ip4"),
		asm.JEq.Imm(asm.R3, net16(etherIPv6), "ip6"),
	)
	b.jump("other")
}

// closedList sends ethertypes of the list to pass, tags in the frame to tagged, all
// else to drop. R3 has the ethertype.
func (b *builder) closedList(pass, tagged, drop string) {
	for _, t := range passTypes {
		b.add(asm.JEq.Imm(asm.R3, net16(t), pass))
	}
	b.add(asm.JEq.Imm(asm.R3, net16(etherVLAN), tagged), asm.JEq.Imm(asm.R3, net16(etherQinQ), tagged))
	b.jump(drop)
}

// parse4 reads an IPv4 header and goes on with the code after it.
func (b *builder) parse4(malformed string) {
	b.load(asm.RFP, etherLen, slotHdr, 20, malformed)
	b.add(
		asm.LoadMem(asm.R1, asm.RFP, slotHdr, asm.Byte),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 4),
		asm.JNE.Imm(asm.R2, 4, malformed),
		asm.And.Imm(asm.R1, 15),
		asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, 20, malformed),
		asm.LoadMem(asm.R2, asm.RFP, slotHdr+2, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.JGT.Reg(asm.R1, asm.R2, malformed),
		asm.Add.Imm(asm.R2, etherLen),
		asm.LoadMem(asm.R3, regCtx, skbLen, asm.Word),
		asm.JGT.Reg(asm.R2, asm.R3, malformed),
		asm.StoreMem(asm.RFP, slotEnd, asm.R2, asm.DWord),
		asm.Mov.Reg(regL4, asm.R1),
		asm.Add.Imm(regL4, etherLen),
		// Fragment offset and the bit that says more follow.
		asm.Mov.Imm(regNoL4, 0),
		asm.Mov.Imm(regSpare, 0),
		asm.LoadMem(asm.R1, asm.RFP, slotHdr+6, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, 0x3fff),
		asm.JEq.Imm(asm.R1, 0, "whole4"),
		asm.Mov.Imm(regSpare, fragFirst),
		asm.And.Imm(asm.R1, 0x1fff),
		asm.JEq.Imm(asm.R1, 0, "whole4"),
		asm.Mov.Imm(regSpare, fragRest),
		asm.Mov.Imm(regNoL4, 1),
	)
	b.label("whole4")
	b.load(asm.RFP, etherLen+9, slotProto, 1, malformed)
	b.transport("4", malformed)
}

// parse6 reads an IPv6 header and walks its extension headers.
func (b *builder) parse6(malformed string) {
	b.load(asm.RFP, etherLen, slotHdr, 40, malformed)
	b.add(
		asm.LoadMem(asm.R1, asm.RFP, slotHdr, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, malformed),
		asm.LoadMem(asm.R2, asm.RFP, slotHdr+4, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.Add.Imm(asm.R2, etherLen+40),
		asm.LoadMem(asm.R3, regCtx, skbLen, asm.Word),
		asm.JGT.Reg(asm.R2, asm.R3, malformed),
		asm.StoreMem(asm.RFP, slotEnd, asm.R2, asm.DWord),
		asm.Mov.Imm(regL4, etherLen+40),
		asm.Mov.Imm(regNoL4, 0),
		asm.Mov.Imm(regSpare, 0),
	)
	b.load(asm.RFP, etherLen+6, slotProto, 1, malformed)
	for i := 0; i <= maxExtensions; i++ {
		l := func(s string) string { return fmt.Sprintf("ext%d%s", i, s) }
		b.add(
			asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte),
			asm.JEq.Imm(asm.R1, extFragment, l("walk")),
			asm.JEq.Imm(asm.R1, extHopByHop, l("walk")),
			asm.JEq.Imm(asm.R1, extRouting, l("walk")),
			asm.JNE.Imm(asm.R1, extDest, "transport6"),
		)
		b.label(l("walk"))
		if i == maxExtensions {
			b.jump(malformed)
			break
		}
		b.add(
			asm.LoadMem(asm.R2, asm.RFP, slotEnd, asm.DWord),
			asm.Mov.Reg(asm.R3, regL4),
			asm.Add.Imm(asm.R3, 8),
			asm.JGT.Reg(asm.R3, asm.R2, malformed),
		)
		b.load(regL4, 0, slotExt, 8, malformed)

		b.add(
			asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte),
			asm.JEq.Imm(asm.R1, extFragment, l("frag")),
			asm.LoadMem(asm.R3, asm.RFP, slotExt+1, asm.Byte),
			asm.Add.Imm(asm.R3, 1),
			asm.LSh.Imm(asm.R3, 3),
			asm.Add.Reg(asm.R3, regL4),
			asm.LoadMem(asm.R2, asm.RFP, slotEnd, asm.DWord),
			asm.JGT.Reg(asm.R3, asm.R2, malformed),
			asm.Mov.Reg(asm.R4, regL4),
			asm.Mov.Reg(regL4, asm.R3),
			asm.StoreMem(asm.RFP, slotKey8, asm.R4, asm.DWord),
		)
		b.jump(l("next"))
		b.label(l("frag"))
		b.add(
			asm.StoreMem(asm.RFP, slotKey8, regL4, asm.DWord),
			asm.Add.Imm(regL4, 8),
			asm.LoadMem(asm.R1, asm.RFP, slotExt+4, asm.Word),
			asm.StoreMem(asm.RFP, slotFragID, asm.R1, asm.Word),
			asm.LoadMem(asm.R1, asm.RFP, slotExt+2, asm.Half),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			asm.Mov.Reg(asm.R2, asm.R1),
			asm.RSh.Imm(asm.R2, 3),
			asm.JNE.Imm(asm.R2, 0, l("rest")),
			asm.And.Imm(asm.R1, 1),
			asm.JEq.Imm(asm.R1, 0, l("next")),
			asm.Mov.Imm(regSpare, fragFirst),
		)
		b.jump(l("next"))
		b.label(l("rest"))
		b.add(asm.Mov.Imm(regSpare, fragRest), asm.Mov.Imm(regNoL4, 1))
		b.label(l("next"))
		b.add(asm.LoadMem(asm.R2, asm.RFP, slotKey8, asm.DWord))
		b.load(asm.R2, 0, slotProto, 1, malformed)
		b.add(asm.JNE.Imm(regNoL4, 0, "transport6"))
	}
	b.label("transport6")
	b.transport("6", malformed)
}

// transport fills the slots of ports and ICMP type.
func (b *builder) transport(fam, malformed string) {
	l := func(s string) string { return s + fam }
	b.add(
		asm.StoreImm(asm.RFP, slotPorts, 0, asm.Word),
		asm.StoreImm(asm.RFP, slotType, 0, asm.Byte),
		asm.JNE.Imm(regNoL4, 0, l("parsed")),
		asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte),
		asm.LoadMem(asm.R2, asm.RFP, slotEnd, asm.DWord),
		asm.Mov.Reg(asm.R3, regL4),
		asm.JEq.Imm(asm.R1, protoTCP, l("ports")),
		asm.JEq.Imm(asm.R1, protoUDP, l("ports")),
		asm.JEq.Imm(asm.R1, protoICMP, l("type")),
		asm.JEq.Imm(asm.R1, protoICMPv6, l("type")),
		asm.JEq.Imm(asm.R1, protoSCTP, l("ports")),
		asm.JNE.Imm(asm.R1, protoUDPLt, l("parsed")),
	)
	b.label(l("ports"))
	b.add(asm.Add.Imm(asm.R3, 4), asm.JGT.Reg(asm.R3, asm.R2, l("short")))
	b.load(regL4, 0, slotPorts, 4, malformed)
	b.jump(l("parsed"))
	b.label(l("type"))
	b.add(asm.Add.Imm(asm.R3, 1), asm.JGT.Reg(asm.R3, asm.R2, l("short")))
	b.load(regL4, 0, slotType, 1, malformed)
	b.jump(l("parsed"))
	b.label(l("short"))
	b.add(asm.Mov.Imm(regNoL4, 1))
	b.label(l("parsed"))
}

// neighbour sends ICMPv6 133 to 137 with hop limit 255 (RFC 4861: it can't have
// passed a router) to pass. Only a header directly after IPv6's counts.
func (b *builder) neighbour(pass string) {
	b.add(
		asm.LoadMem(asm.R1, asm.RFP, slotHdr+6, asm.Byte),
		asm.JNE.Imm(asm.R1, protoICMPv6, "notND"),
		asm.JNE.Imm(regNoL4, 0, "notND"),
		asm.LoadMem(asm.R1, asm.RFP, slotHdr+7, asm.Byte),
		asm.JNE.Imm(asm.R1, 255, "notND"),
		asm.LoadMem(asm.R1, asm.RFP, slotType, asm.Byte),
		asm.JLT.Imm(asm.R1, 133, "notND"),
		asm.JLE.Imm(asm.R1, 137, pass),
	)
	b.label("notND")
}

// addresses fills the two addresses of slotAddr, IPv4 as IPv4-mapped.
func (b *builder) addresses(v6 bool) {
	if v6 {
		for i := int16(0); i < 32; i += 8 {
			b.add(asm.LoadMem(asm.R1, asm.RFP, slotSrc6+i, asm.DWord),
				asm.StoreMem(asm.RFP, slotAddr+i, asm.R1, asm.DWord))
		}
		return
	}
	mapped := int64(int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})))
	for i := int16(0); i < 32; i += 16 {
		b.add(
			asm.StoreImm(asm.RFP, slotAddr+i, 0, asm.Word),
			asm.StoreImm(asm.RFP, slotAddr+i+4, 0, asm.Word),
			asm.StoreImm(asm.RFP, slotAddr+i+8, mapped, asm.Word),
			asm.LoadMem(asm.R1, asm.RFP, slotSrc4+i/4, asm.Word),
			asm.StoreMem(asm.RFP, slotAddr+i+12, asm.R1, asm.Word),
		)
	}
}
