package config

// server local: what a key server says of its group, with its SAs.

import (
	"net/netip"
	"slices"

	"getvpn/cli/grammar"
	"getvpn/ipsec"
)

// newLocal has the defaults of cli.md: 10 s and 2 retransmissions, 3DES, a day.
func newLocal() *LocalServer {
	return &LocalServer{RekeyEncr: Encr3DES, RekeySigHash: "sha", RekeyLifetime: defaultKEK,
		RekeyRetransmit: seconds(10), RekeyNumber: 2, SIDBits: 24}
}

func defaultReplay() ipsec.Replay { return ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64} }

func (b *builder) local() *LocalServer { return b.thisGroup().Local }

func (b *builder) thisSA() *SAIPsec { return &b.local().SAs[b.sa] }

// aclName is a list's number or name.
const aclName = "acl:WORD"

func localCommands() []command {
	out := []command{
		{Mode: modeLocal, Pattern: "address [ipv4] a:A.B.C.D", Help: "Address of this key server", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().Address = addr(m, "a")
			if m.No {
				b.local().Address = netip.Addr{}
			}
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey algorithm alg:{3des-cbc|des-cbc|aes bits:{128|192|256}}", Help: "Cipher of the KEK", No: true, Do: func(b *builder, m *grammar.Match) error {
			l := b.local()
			switch alg := given(m, "alg", "3des-cbc"); alg {
			case "des-cbc":
				return bad(m, "alg", "des-cbc isn't supported: use aes 256.")
			case "aes":
				l.RekeyEncr, l.RekeyKeyBits = EncrAES, num(m, "bits")
			default:
				l.RekeyEncr, l.RekeyKeyBits = Encr3DES, 0
			}
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey sig-hash algorithm h:{sha|sha256|sha384|sha512}", Help: "Hash of the rekey signature", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().RekeySigHash = given(m, "h", "sha")
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey authentication w:{mypubkey|pubkey} t:{rsa|ecdsa} k:WORD", Help: "Key that signs rekeys", No: true, Do: func(b *builder, m *grammar.Match) error {
			l := b.local()
			l.RekeyAuthRSA, l.RekeyAuthECDSA = "", ""
			if m.Get("t") == "ecdsa" {
				l.RekeyAuthECDSA = given(m, "k", "")
			} else {
				l.RekeyAuthRSA = given(m, "k", "")
			}
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey acknowledgement w:{cisco|interoperable|any}", Help: "Form of acknowledgements", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().RekeyAck = Ack(given(m, "w", ""))
			if b.local().RekeyAck == "cisco" {
				b.local().RekeyAck = AckCisco
			}
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey lifetime u:{seconds s:<300-2592000>|days d:<1-30>}", Help: "KEK lifetime", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().RekeyLifetime = defaultKEK
			if !m.No {
				b.local().RekeyLifetime = lifetime(m)
			}
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey retransmit s:<10-60> {number n:<1-10>|p:periodic}", Help: "Retransmission of rekeys", No: true, Do: func(b *builder, m *grammar.Match) error {
			l := b.local()
			if m.No {
				l.RekeyRetransmit, l.RekeyNumber, l.RekeyPeriodic = 0, 0, false
				return nil
			}
			l.RekeyRetransmit, l.RekeyNumber, l.RekeyPeriodic = seconds(num(m, "s")), num(m, "n"), m.Has("p")
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey transport unicast", Help: "Rekeys to each member", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().RekeyUnicast = !m.No
			return nil
		}},
		{Mode: modeLocal, Pattern: "rekey address {v4:ipv4|v6:ipv6} " + aclName, Help: "Multicast rekeys: list with source and group", No: true, Do: func(b *builder, m *grammar.Match) error {
			l := b.local()
			l.RekeyAddress, l.RekeyAddressV6 = given(m, "acl", ""), m.Has("v6") && !m.No
			return nil
		}},
		{Mode: modeLocal, Pattern: "authorization address ipv4 " + aclName, Help: "Who may register", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().AuthAddress = given(m, "acl", "")
			return nil
		}},
		{Mode: modeLocal, Pattern: "sa receive-only", Help: "Members install inbound SAs only", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.local().ReceiveOnly = !m.No
			return nil
		}},
		{Mode: modeLocal, Pattern: "group size {s:{medium|large}|s:small bits:{8|12|16}}", Help: "Width of Sender IDs", No: true, Do: func(b *builder, m *grammar.Match) error {
			l := b.local()
			switch {
			case m.No || m.Get("s") == "medium":
				l.SIDBits = 24
			case m.Get("s") == "large":
				l.SIDBits = 32
			default:
				l.SIDBits = num(m, "bits")
			}
			return nil
		}},
		{Mode: modeLocal, Pattern: "sa ipsec n:<1-65535>", Help: "A data SA", Enter: modeSA, No: true, Do: enterSA},
		{Mode: modeSA, Pattern: "profile p:WORD", Help: "IPsec profile", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisSA().Profile = given(m, "p", "")
			return nil
		}},
		{Mode: modeSA, Pattern: "match address {v4:ipv4|v6:ipv6} " + aclName, Help: "What is protected", No: true, Do: func(b *builder, m *grammar.Match) error {
			s := b.thisSA()
			s.ACL, s.IPv6 = given(m, "acl", ""), m.Has("v6") && !m.No
			return nil
		}},
		{Mode: modeSA, Pattern: "replay counter window-size [w:<1-1024>]", Help: "Anti-replay by counter", No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.No {
				b.thisSA().Replay = ipsec.Replay{}
				return nil
			}
			r := defaultReplay()
			if m.Has("w") {
				r.Window = num(m, "w")
			}
			if !slices.Contains([]int{64, 128, 256, 512, 1024}, r.Window) {
				return bad(m, "w", "A counter window has 64, 128, 256, 512 or 1024 packets.")
			}
			b.thisSA().Replay = r
			return nil
		}},
		{Mode: modeSA, Pattern: "replay time window-size [w:<1-100>]", Help: "Anti-replay by time", No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.No {
				b.thisSA().Replay = ipsec.Replay{}
				return nil
			}
			r := ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100}
			if m.Has("w") {
				r.Window = num(m, "w")
			}
			b.thisSA().Replay = r
			return nil
		}},
		{Mode: modeSA, Pattern: "replay", Help: "no replay: copies are accepted", No: true, Do: func(b *builder, m *grammar.Match) error {
			if !m.No {
				b.thisSA().Replay = defaultReplay()
				return nil
			}
			b.thisSA().Replay = ipsec.Replay{}
			return nil
		}},
		{Mode: modeSA, Pattern: "tag cts sgt", Help: "Carry security group tags in the packets", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisSA().Tag = !m.No
			return nil
		}},
	}
	for _, p := range []string{"authorization identity w:WORD", "sa d3p LINE", "registration LINE", "pfs", "gikev2 LINE"} {
		out = append(out, command{Mode: modeLocal, Pattern: p, Help: "Kept for a later version", No: true, Do: keepLine(func(b *builder) *[]string { return &b.local().Kept })})
	}
	return out
}

func enterSA(b *builder, m *grammar.Match) error {
	n, l := num(m, "n"), &b.local().SAs
	i, found := slices.BinarySearchFunc(*l, n, func(s SAIPsec, n int) int { return s.Seq - n })
	switch {
	case m.No:
		*l = slices.DeleteFunc(*l, func(s SAIPsec) bool { return s.Seq == n })
		return nil
	case !found:
		*l = slices.Insert(*l, i, SAIPsec{Seq: n, Replay: defaultReplay()})
	}
	b.sa = i
	b.mark("crypto gdoi group " + b.thisGroup().Name + " sa ipsec " + m.Get("n"))
	return nil
}
