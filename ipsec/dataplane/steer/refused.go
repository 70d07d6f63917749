package steer

// The last packet that an interface's ingress refused as clear, kept for whoever
// reports it: a counter says that it happened, this says between whom.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"getvpn/ipsec"
)

// Kinds of refused packets, in the key of the map.
const (
	refusedClear = 0
	refusedESP   = 1
)

// Refused is a packet that policy wants protected and that came otherwise.
type Refused struct {
	Src, Dst netip.Addr
	Proto    uint8
	SPI      uint32 // of ESP with an SPI that isn't ours
}

// clearDrops emits the end of packets that are dropped as clear: remembers addresses,
// and tells ESP, whose SPI must be unknown when it gets here, from the rest. R1 has the rule.
func (b *builder) clearDrops(m *maps, v6 bool) {
	s := "4"
	if v6 {
		s = "6"
	}
	b.label("clear" + s)
	b.add(asm.Mov.Reg(asm.R8, asm.R1)) // regNoL4 is of no use any more
	b.addresses(v6)
	b.add(
		asm.StoreImm(asm.RFP, slotID, 0, asm.Word),
		asm.StoreImm(asm.RFP, slotKey8+4, refusedClear, asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, slotProto, asm.Byte),
		asm.StoreMem(asm.RFP, slotFProt, asm.R1, asm.Word),
		asm.JNE.Imm(asm.R1, protoESP, "keep"+s),
		asm.JEq.Imm(regSpare, fragRest, "noSPI"+s),
		asm.StoreImm(asm.RFP, slotKey8+4, refusedESP, asm.Word),
	)
	b.load(regL4, 0, slotID, 4, "noSPI"+s)
	b.label("keep" + s)
	b.add(
		asm.LoadMem(asm.R1, regCtx, skbIfindex, asm.Word),
		asm.StoreMem(asm.RFP, slotKey8, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, m.refused.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, slotKey8),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, slotAddr),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Mov.Imm(asm.R2, int32(ipsec.DropClearInbound)),
		asm.LoadMem(asm.R3, asm.RFP, slotProto, asm.Byte),
		asm.JNE.Imm(asm.R3, protoESP, "drop"),
	)
	b.label("noSPI" + s)
	b.add(asm.Mov.Reg(asm.R1, asm.R8), asm.Mov.Imm(asm.R2, int32(ipsec.DropUnknownSPI)))
	b.jump("drop")
}

// TakeRefused returns the last clear packet, or with esp the last ESP packet of an
// unknown SPI, that the interface refused since the last call; false if there was none.
func (s *Steering) TakeRefused(wan int, esp bool) (Refused, bool, error) {
	key := [2]uint32{uint32(wan), refusedClear}
	if esp {
		key[1] = refusedESP
	}
	var v [40]byte
	err := s.m.refused.Lookup(&key, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return Refused{}, false, nil
	}
	if err == nil {
		if err = s.m.refused.Delete(&key); errors.Is(err, ebpf.ErrKeyNotExist) {
			err = nil
		}
	}
	if err != nil {
		return Refused{}, false, fmt.Errorf("steer: refused packets: %w", err)
	}
	return Refused{Src: netip.AddrFrom16([16]byte(v[:16])).Unmap(), Dst: netip.AddrFrom16([16]byte(v[16:32])).Unmap(),
		SPI: binary.BigEndian.Uint32(v[32:]), Proto: uint8(binary.NativeEndian.Uint32(v[36:]))}, true, nil
}
