package config

// What the rows of the table look for in rekeys and the group as a whole.

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
)

func receiveOnlyOn(p *pair) []hit {
	a, b, ok := p.server()
	return one(ok && !a.ReceiveOnly && b.ReceiveOnly, "")
}

func receiveOnlyOff(p *pair) []hit {
	a, b, ok := p.server()
	return one(ok && a.ReceiveOnly && !b.ReceiveOnly, "")
}

// rekeys is both sides when the group has rekeys before and after.
func (p *pair) rekeys() (was, is *LocalServer, ok bool) {
	a, b, ok := p.server()
	if !ok {
		return nil, nil, false
	}
	x, _ := a.RekeyKey()
	y, _ := b.RekeyKey()
	return a, b, x != "" && y != ""
}

func kekLifetime(p *pair) []hit {
	a, b, ok := p.rekeys()
	if !ok {
		return nil
	}
	return one(a.RekeyLifetime != b.RekeyLifetime, "%d s to %d s", secs(a.RekeyLifetime), secs(b.RekeyLifetime))
}

func cipherText(l *LocalServer) string { return RekeyCipher{l.RekeyEncr, l.RekeyKeyBits}.String() }

func kekCipher(p *pair) []hit {
	a, b, ok := p.rekeys()
	if !ok {
		return nil
	}
	return one(cipherText(a) != cipherText(b), "%s to %s", cipherText(a), cipherText(b))
}

func kekKey(p *pair) []hit {
	a, b, ok := p.rekeys()
	if !ok {
		return nil
	}
	x, xe := a.RekeyKey()
	y, ye := b.RekeyKey()
	return one(x != y || xe != ye, "%s to %s", x, y)
}

func kekOn(p *pair) []hit {
	a, b, ok := p.server()
	if !ok {
		return nil
	}
	x, _ := a.RekeyKey()
	y, _ := b.RekeyKey()
	return one(x == "" && y != "", "key %s", y)
}

func kekOff(p *pair) []hit {
	a, b, ok := p.server()
	if !ok {
		return nil
	}
	x, _ := a.RekeyKey()
	y, _ := b.RekeyKey()
	return one(x != "" && y == "", "")
}

func kekHash(p *pair) []hit {
	a, b, ok := p.rekeys()
	if !ok {
		return nil
	}
	return one(a.RekeySigHash != b.RekeySigHash, "%s to %s", a.RekeySigHash, b.RekeySigHash)
}

func toMulticast(p *pair) []hit {
	a, b, ok := p.rekeys()
	return one(ok && a.RekeyUnicast && !b.RekeyUnicast, "")
}

func toUnicast(p *pair) []hit {
	a, b, ok := p.rekeys()
	return one(ok && !a.RekeyUnicast && b.RekeyUnicast, "")
}

// multicast is both sides when rekeys are multicast before and after.
func (p *pair) multicast() (was, is *LocalServer, ok bool) {
	a, b, ok := p.rekeys()
	return a, b, ok && !a.RekeyUnicast && !b.RekeyUnicast
}

func rekeyAddress(p *pair) []hit {
	a, b, ok := p.multicast()
	if !ok {
		return nil
	}
	return one(a.RekeyAddress != b.RekeyAddress || a.RekeyAddressV6 != b.RekeyAddressV6, "%s to %s", orNone(a.RekeyAddress), orNone(b.RekeyAddress))
}

func rekeyAddressACL(p *pair) []hit {
	a, b, ok := p.multicast()
	if !ok || a.RekeyAddress != b.RekeyAddress {
		return nil
	}
	x, y := p.old.ACLByName(a.RekeyAddress), p.next.ACLByName(b.RekeyAddress)
	return one(x != nil && y != nil && !sameEntries(x, y), "list %s", b.RekeyAddress)
}

func retransmitText(l *LocalServer) string {
	switch {
	case l.RekeyPeriodic:
		return fmt.Sprintf("every %d s", secs(l.RekeyRetransmit))
	case l.RekeyRetransmit == 0:
		return "none"
	}
	return fmt.Sprintf("%d × %d s", l.RekeyNumber, secs(l.RekeyRetransmit))
}

func rekeyRetransmit(p *pair) []hit {
	a, b, ok := p.rekeys()
	if !ok {
		return nil
	}
	return one(retransmitText(a) != retransmitText(b), "%s to %s", retransmitText(a), retransmitText(b))
}

func rekeyAck(p *pair) []hit {
	a, b, ok := p.rekeys()
	return one(ok && a.RekeyAck != b.RekeyAck, "")
}

func groupSize(p *pair) []hit {
	a, b, ok := p.server()
	if !ok {
		return nil
	}
	return one(a.SIDBits != b.SIDBits, "%d to %d bits", a.SIDBits, b.SIDBits)
}

func authorization(p *pair) []hit {
	a, b, ok := p.server()
	if !ok {
		return nil
	}
	x, y := p.old.ACLByName(a.AuthAddress), p.next.ACLByName(b.AuthAddress)
	if (x == nil) != (y == nil) {
		return one(true, "%s to %s", orNone(a.AuthAddress), orNone(b.AuthAddress))
	}
	return one(x != nil && !sameEntries(x, y), "list %s", b.AuthAddress)
}

func ksAddress(p *pair) []hit {
	a, b, ok := p.server()
	if !ok {
		return nil
	}
	return one(a.Address != b.Address, "%s to %s", addrOrNone(a.Address), addrOrNone(b.Address))
}

func addrOrNone(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}

func groupIdentity(p *pair) []hit {
	if p.was == nil || p.is == nil {
		return nil
	}
	return one(p.was.identity() != p.is.identity(), "%s to %s", p.was.identity(), p.is.identity())
}

func (g *Group) identity() string {
	switch {
	case g.HasNumber:
		return fmt.Sprint(g.Number)
	case g.Address.IsValid():
		return g.Address.String()
	}
	return "none"
}

func groupForms(p *pair) []hit {
	return one(p.was != nil && p.is != nil && (p.was.Interop != p.is.Interop || p.was.IPv6 != p.is.IPv6), "")
}

func groupAdded(p *pair) []hit {
	return one(p.is != nil && p.is.Local != nil && (p.was == nil || p.was.Local == nil), "")
}

func groupRemoved(p *pair) []hit {
	return one(p.was != nil && p.was.Local != nil && (p.is == nil || p.is.Local == nil), "")
}

func memberServers(p *pair) []hit {
	return one(p.member() && !slices.Equal(p.was.Servers, p.is.Servers), "")
}

func memberPassive(p *pair) []hit { return one(p.member() && p.was.Passive != p.is.Passive, "") }

func memberClient(p *pair) []hit {
	return one(p.member() && !reflect.DeepEqual(p.was.Client, p.is.Client), "")
}
