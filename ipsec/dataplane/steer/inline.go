package steer

// Security group tags in frames of a LAN port: the Cisco metadata header (ethertype 0x8909)
// between the Ethernet header and the packet. The kernel drops such frames, since no
// protocol of its has that number. A program on the port's ingress, before the kernel
// looks, writes the tag into the packet's mark and takes the header out.
//
//	destination, source | 8909 | version 1, length 1 | option 0001 | tag | ethertype | packet
//
// No helper shortens a frame in front of a packet whose protocol it doesn't know; the one
// that takes VLAN tags out does, and also gives the kernel the ethertype behind them. The
// header has the size of two. So two empty tags are pushed, which makes the frame one with
// a VLAN tag in the kernel's eyes, the header is made to look like two more, and all four
// are popped.

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

const (
	etherMetadata = 0x8909
	metadataHead  = 0x0101 // version 1, one option
	optionSGT     = 0x0001
)

// Inline says what a LAN port does with tags in frames.
type Inline struct {
	Tag TagBits // of marks
	// Static is the tag of what comes without one; 0: none.
	Static uint16
	// Replace: what comes has Static, whatever its frame says.
	Replace bool
}

// AttachInline takes tags out of the frames that an interface receives, or changes how. The
// program is there until DetachInline or, with tcx, the end of the process.
func (s *Steering) AttachInline(ifindex int, in Inline) error {
	if in.Tag.Width == 0 || in.Tag.Width > 16 || int(in.Tag.Width)+int(in.Tag.Shift) > 32 {
		return fmt.Errorf("steer: a tag of %d bits above %d", in.Tag.Width, in.Tag.Shift)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ifs[ifindex] != nil {
		return fmt.Errorf("steer: interface %d is protected: it has no tags in frames", ifindex)
	}
	spec, err := inlineSpec(in)
	if err != nil {
		return err
	}
	return s.hang(inlinePoint(ifindex), spec, nil)
}

// DetachInline ends that. An interface without it, or that is gone, is no error.
func (s *Steering) DetachInline(ifindex int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.be.detach(inlinePoint(ifindex))
}

// InlineAlive reports that the program hangs there still.
func (s *Steering) InlineAlive(ifindex int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.be.alive(inlinePoint(ifindex))
}

func inlinePoint(ifindex int) point { return point{ifindex: ifindex, dir: ingress} }

func inlineSpec(in Inline) (*ebpf.ProgramSpec, error) {
	const at, tpid = slotKey8, slotKey4
	const largest = 0xffff
	mask := int32(uint32(1<<in.Tag.Width-1) << in.Tag.Shift)
	static := in.Static
	if static>>in.Tag.Width != 0 {
		static = 0 // a tag that has no room is left out
	}
	b := newBuilder()
	b.add(
		asm.Mov.Reg(regCtx, asm.R1),
		asm.LoadMem(asm.R1, regCtx, skbVlanPresent, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "next"), // a sub-interface's: its own program sees it untagged
		asm.Mov.Imm(asm.R7, int32(static)),
		asm.LoadMem(asm.R1, regCtx, skbProtocol, asm.Word),
	)
	if in.Static != 0 {
		b.add(asm.JNE.Imm(asm.R1, net16(etherMetadata), "mark"))
	} else {
		b.add(asm.JNE.Imm(asm.R1, net16(etherMetadata), "next"))
	}
	b.load(asm.RFP, etherLen, at, 8, "next")
	b.add(
		asm.LoadMem(asm.R1, asm.RFP, at, asm.Half), asm.JNE.Imm(asm.R1, net16(metadataHead), "next"),
		asm.LoadMem(asm.R1, asm.RFP, at+2, asm.Half), asm.JNE.Imm(asm.R1, net16(optionSGT), "next"),
		asm.LoadMem(asm.R1, asm.RFP, at+6, asm.Half),
		asm.JEq.Imm(asm.R1, net16(etherVLAN), "next"), asm.JEq.Imm(asm.R1, net16(etherQinQ), "next"), asm.JEq.Imm(asm.R1, net16(etherMetadata), "next"),
	)
	if !in.Replace {
		b.add(
			asm.LoadMem(asm.R7, asm.RFP, at+4, asm.Half),
			asm.HostTo(asm.BE, asm.R7, asm.Half),
		)
		if in.Tag.Width < 16 {
			b.add(asm.JLE.Imm(asm.R7, largest>>(16-in.Tag.Width), "fits"), asm.Mov.Imm(asm.R7, 0))
			b.label("fits")
		}
	}
	for range 2 {
		b.add(asm.Mov.Imm(asm.R2, net16(etherVLAN)), asm.Mov.Imm(asm.R3, 0))
		b.callCtx(asm.FnSkbVlanPush)
		b.add(asm.JNE.Imm(asm.R0, 0, "drop"))
	}
	// One of them is in the frame now, the other beside it.
	b.add(asm.StoreImm(asm.RFP, tpid, int64(net16(etherVLAN)), asm.Half))
	for _, off := range []int32{etherLen + 2, etherLen + 6} {
		b.add(asm.Mov.Imm(asm.R2, off), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, tpid),
			asm.Mov.Imm(asm.R4, 2), asm.Mov.Imm(asm.R5, 1)) // BPF_F_RECOMPUTE_CSUM
		b.callCtx(asm.FnSkbStoreBytes)
		b.add(asm.JNE.Imm(asm.R0, 0, "drop"))
	}
	for range 4 {
		b.callCtx(asm.FnSkbVlanPop)
		b.add(asm.JNE.Imm(asm.R0, 0, "drop"))
	}
	b.label("mark")
	b.add(
		asm.LSh.Imm(asm.R7, int32(in.Tag.Shift)),
		asm.LoadMem(asm.R1, regCtx, skbMark, asm.Word),
		asm.And.Imm(asm.R1, ^mask),
		asm.Or.Reg(asm.R1, asm.R7),
		asm.StoreMem(regCtx, skbMark, asm.R1, asm.Word),
	)
	b.label("next")
	b.add(asm.Mov.Imm(asm.R0, verdictNext), asm.Return())
	b.label("drop")
	b.add(asm.Mov.Imm(asm.R0, verdictDrop), asm.Return())
	return b.spec("getvpn_inline", ebpf.SchedCLS)
}
