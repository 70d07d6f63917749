package steer

// The second lock. A link dies with its device; a device that comes back under the
// same name would be open until someone attaches again. An nft table judges what
// passes an interface of that NAME whose index isn't the attached one, by rules made
// from the same rulesets: what they protect or drop is dropped. What passes the
// attached one costs a comparison of its index.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	nx "github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

// LockName installs or atomically replaces the lock of the interfaces called name.
// The one with index wan is free of it, since its programs judge; 0 frees none.
func LockName(name string, wan int, out, in ipsec.Ruleset) error {
	if err := check(&out); err != nil {
		return err
	}
	if err := check(&in); err != nil {
		return err
	}
	return withTable(name, func(c *nftables.Conn, t *nftables.Table) {
		l := lock{c: c, t: c.AddTable(t), name: name, wan: uint32(wan)}
		l.policy("out", &out)
		l.policy("in", &in)
		l.exempt("local", "out", udpPort(0, portGDOI), udpPort(0, portNATT), udpPort(2, portGDOI), udpPort(2, portNATT))
		l.exempt("through", "out")
		l.exempt("arriving", "in", udpPort(2, portGDOI), udpPort(2, portNATT))
		l.exempt("transit", "in")
		l.leaving(l.base("output", nftables.ChainHookOutput), "local")
		forward := l.base("forward", nftables.ChainHookForward)
		l.leaving(forward, "through")
		l.entering(forward, "transit")
		l.entering(l.base("input", nftables.ChainHookInput), "arriving")
	})
}

// UnlockName removes the lock. None there is no error.
func UnlockName(name string) error { return withTable(name, func(*nftables.Conn, *nftables.Table) {}) }

// Locked lists the names that have a lock in this network namespace, whoever made it.
func Locked() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("steer: nftables: %w", err)
	}
	all, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("steer: nft tables: %w", err)
	}
	var names []string
	for _, t := range all {
		if n, ok := strings.CutPrefix(t.Name, tablePrefix); ok {
			names = append(names, n)
		}
	}
	return names, nil
}

// tablePrefix and the interface's name are the name of its table.
const tablePrefix = "getvpn-"

// withTable deletes the table and builds it anew in one transaction.
func withTable(name string, build func(*nftables.Conn, *nftables.Table)) error {
	// The kernel answers each message of the transaction before it reads the next, and
	// takes it in one piece: long lists need room.
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(8<<20), c.SetWriteBuffer(8<<20))
	}))
	if err != nil {
		return fmt.Errorf("steer: nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tablePrefix + name}
	c.AddTable(t) // so that deleting never fails
	c.DelTable(t)
	build(c, t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("steer: nft table of %s: %w", name, err)
	}
	return nil
}

type lock struct {
	c    *nftables.Conn
	t    *nftables.Table
	name string
	wan  uint32
}

func (l *lock) rule(ch *nftables.Chain, parts ...[]nx.Any) {
	l.c.AddRule(&nftables.Rule{Table: l.t, Chain: ch, Exprs: slices.Concat(parts...)})
}

func (l *lock) base(name string, hook *nftables.ChainHook) *nftables.Chain {
	return l.c.AddChain(&nftables.Chain{Name: name, Table: l.t, Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: nftables.ChainPriorityFilter})
}

// leaving sends packets on their way out through a chain, entering those that came in:
// of incarnations of the interface that aren't the attached one. That one's index comes
// first, since it decides for nearly all packets.
func (l *lock) leaving(ch *nftables.Chain, to string) {
	l.foreign(ch, nx.MetaKeyOIF, nx.MetaKeyOIFNAME, to)
}
func (l *lock) entering(ch *nftables.Chain, to string) {
	l.foreign(ch, nx.MetaKeyIIF, nx.MetaKeyIIFNAME, to)
}

func (l *lock) foreign(ch *nftables.Chain, index, name nx.MetaKey, to string) {
	if l.wan != 0 {
		l.rule(ch, meta(index, nx.CmpOpEq, binary.NativeEndian.AppendUint32(nil, l.wan)), verdict(nx.VerdictAccept, ""))
	}
	ifname := make([]byte, unix.IFNAMSIZ)
	copy(ifname, l.name)
	l.rule(ch, meta(name, nx.CmpOpEq, ifname), verdict(nx.VerdictJump, to))
}

// exempt makes a chain that sends packets on to a policy, but for what an exemption
// names.
func (l *lock) exempt(name, to string, exempt ...[]nx.Any) {
	ch := l.c.AddChain(&nftables.Chain{Name: name, Table: l.t})
	// Neighbour discovery, as in the programs.
	exempt = append(exempt, slices.Concat(
		meta(nx.MetaKeyNFPROTO, nx.CmpOpEq, []byte{unix.NFPROTO_IPV6}), meta(nx.MetaKeyL4PROTO, nx.CmpOpEq, []byte{protoICMPv6}),
		field(nx.PayloadBaseNetworkHeader, 7, 1, nx.CmpOpEq, []byte{255}),
		field(nx.PayloadBaseTransportHeader, 0, 1, nx.CmpOpGte, []byte{133}),
		field(nx.PayloadBaseTransportHeader, 0, 1, nx.CmpOpLte, []byte{137})))
	for _, e := range exempt {
		l.rule(ch, e, verdict(nx.VerdictReturn, ""))
	}
	l.rule(ch, verdict(nx.VerdictGoto, chainName(to, 0)))
}

func chainName(to string, at int) string { return fmt.Sprintf("%s%d", to, at) }

// policy makes chains of the ruleset: one starts at each rule that some Next goes
// to, and runs into the following one.
func (l *lock) policy(name string, r *ipsec.Ruleset) {
	starts := []int{0, len(r.Rules)}
	for i := range r.Rules {
		if r.Rules[i].Verdict == ipsec.Next {
			starts = append(starts, r.Rules[i].Goto)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	chains := map[int]*nftables.Chain{}
	for _, s := range starts {
		chains[s] = l.c.AddChain(&nftables.Chain{Name: chainName(name, s), Table: l.t})
	}
	for k, s := range starts[:len(starts)-1] {
		end := starts[k+1]
		for i := s; i < end; i++ {
			rule := &r.Rules[i]
			for _, m := range matches(&rule.ACE) {
				l.rule(chains[s], m, consequence(name, rule.Verdict, rule.Goto))
			}
		}
		l.rule(chains[s], verdict(nx.VerdictGoto, chainName(name, end)))
	}
	l.rule(chains[len(r.Rules)], consequence(name, r.Default, 0))
}

func consequence(name string, v ipsec.Verdict, next int) []nx.Any {
	switch v {
	case ipsec.Pass:
		return verdict(nx.VerdictReturn, "") // to the hook's chain, which may judge once more
	case ipsec.Next:
		return verdict(nx.VerdictGoto, chainName(name, next))
	}
	return append([]nx.Any{&nx.Counter{}}, verdict(nx.VerdictDrop, "")...)
}

// matches is the entry as nft expressions: one list, and for a permit that names
// ports another one for fragments without them (ipsec.ACE.Matches).
func matches(e *ipsec.ACE) [][]nx.Any {
	nf, at, n := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if e.Family != ipsec.IPv4 {
		nf, at, n = unix.NFPROTO_IPV6, 8, 16
	}
	m := meta(nx.MetaKeyNFPROTO, nx.CmpOpEq, []byte{nf})
	if e.Proto != 0 {
		m = append(m, meta(nx.MetaKeyL4PROTO, nx.CmpOpEq, []byte{e.Proto})...)
	}
	for i, a := range []ipsec.AddrMatch{e.Src, e.Dst} {
		if a.IsAny() {
			continue
		}
		if uint32(a.Addr.BitLen()/8) != n {
			return nil // an address of the other family: never
		}
		m = append(m, masked(nx.PayloadBaseNetworkHeader, at+uint32(i)*n, n, a.Mask.AsSlice(), nx.CmpOpEq, a.Addr.AsSlice())...)
	}
	if !e.NamesPorts() {
		return [][]nx.Any{m}
	}
	p := slices.Clone(m)
	if e.HasICMPType {
		p = append(p, field(nx.PayloadBaseTransportHeader, 0, 1, nx.CmpOpEq, []byte{e.ICMPType})...)
	}
	p = append(append(p, port(e.SrcPort, 0)...), port(e.DstPort, 2)...)
	if e.Action != ipsec.Permit {
		return [][]nx.Any{p}
	}
	if nf == unix.NFPROTO_IPV4 {
		m = append(m, masked(nx.PayloadBaseNetworkHeader, 6, 2, []byte{0x1f, 0xff}, nx.CmpOpNeq, []byte{0, 0})...)
	} else {
		m = append(m, &nx.Exthdr{DestRegister: 1, Type: extFragment, Offset: 2, Len: 2, Op: nx.ExthdrOpIpv6},
			&nx.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}},
			&nx.Cmp{Op: nx.CmpOpNeq, Register: 1, Data: []byte{0, 0}})
	}
	return [][]nx.Any{p, m}
}

func port(m ipsec.PortMatch, at uint32) []nx.Any {
	f := func(op nx.CmpOp, v uint16) []nx.Any {
		return field(nx.PayloadBaseTransportHeader, at, 2, op, binary.BigEndian.AppendUint16(nil, v))
	}
	switch m.Op {
	case ipsec.PortEq:
		return f(nx.CmpOpEq, m.Lo)
	case ipsec.PortNeq:
		return f(nx.CmpOpNeq, m.Lo)
	case ipsec.PortLt:
		return f(nx.CmpOpLt, m.Lo)
	case ipsec.PortGt:
		return f(nx.CmpOpGt, m.Lo)
	case ipsec.PortRange:
		return append(f(nx.CmpOpGte, m.Lo), f(nx.CmpOpLte, m.Hi)...)
	}
	return nil
}

func udpPort(at uint32, p uint16) []nx.Any {
	return append(meta(nx.MetaKeyL4PROTO, nx.CmpOpEq, []byte{protoUDP}), port(ipsec.PortMatch{Op: ipsec.PortEq, Lo: p}, at)...)
}

func meta(k nx.MetaKey, op nx.CmpOp, v []byte) []nx.Any {
	return []nx.Any{&nx.Meta{Key: k, Register: 1}, &nx.Cmp{Op: op, Register: 1, Data: v}}
}

func field(base nx.PayloadBase, at, n uint32, op nx.CmpOp, v []byte) []nx.Any {
	return []nx.Any{&nx.Payload{DestRegister: 1, Base: base, Offset: at, Len: n}, &nx.Cmp{Op: op, Register: 1, Data: v}}
}

func masked(base nx.PayloadBase, at, n uint32, mask []byte, op nx.CmpOp, v []byte) []nx.Any {
	return []nx.Any{&nx.Payload{DestRegister: 1, Base: base, Offset: at, Len: n},
		&nx.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
		&nx.Cmp{Op: op, Register: 1, Data: v}}
}

func verdict(k nx.VerdictKind, chain string) []nx.Any {
	return []nx.Any{&nx.Verdict{Kind: k, Chain: chain}}
}
