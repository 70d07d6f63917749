package e2e

// Rekeys of live daemons as a capture in the core has them. The only secret that is
// exported is the phase-1 key: the second decoder opens the registrations with it,
// finds the KEK there, and each further KEK in the rekey before.

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
	"getvpn/test/rfcdecode"
)

// Every rekey, acknowledgement and delete of a live group breaks no rule of the RFCs,
// and openssl verifies each signature and each HASH.
func Test_wire_04_RekeysDecrypted(t *testing.T) {
	t.Parallel()
	common := []string{"rekey acknowledgement interoperable", "rekey retransmit 10 number 1"}
	for _, c := range []struct {
		name      string
		rekey     []string
		multicast bool
	}{
		{"unicast", append([]string{"rekey algorithm aes 128", "rekey sig-hash algorithm sha256", "rekey authentication mypubkey rsa SIGN", "rekey transport unicast"}, common...), false},
		{"multicast", append([]string{"rekey algorithm aes 256", "rekey authentication mypubkey ecdsa SIGN", multicastRekey}, common...), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rekeysOnTheWire(t, c.rekey, c.multicast)
		})
	}
}

func rekeysOnTheWire(t *testing.T, rekey []string, multicast bool) {
	w, keys := newOpenWorld(t, 2)
	acks := 4 * 2 // four messages, two members
	if multicast {
		acks = 0 // only unicast rekeys are acknowledged
		w.must(w.RouteMulticast())
	}
	w.must(w.Count("ks", map[string]string{"acks": "udp dport 848 @th,208,8 35"})) // the header's exchange type
	c, err := w.Capture("rekeys", "core", "k1", 0, "udp port 848 or udp port 4500 or ip[6:2] & 0x1fff != 0")
	w.must(err)
	w.group(policy{transform: "esp-aes 128 esp-sha256-hmac", replay: "replay counter window-size 64", rekey: rekey}, 2)

	// Each command changes the keys at both members.
	before := w.spis()
	for _, command := range []string{"crypto gdoi ks rekey", "crypto gdoi ks rekey replace-now", "clear crypto gdoi ks policy", "clear crypto gdoi ks members now"} {
		_, err := w.ks.Show(command)
		w.must(err)
		w.until(30*time.Second, func() error {
			now := w.spis()
			for _, d := range w.gms {
				if now[d.Node] == before[d.Node] || now[d.Node] == 0 {
					return fmt.Errorf("%s: the newest SA of %s is %#x, before %#x", command, d.Node, now[d.Node], before[d.Node])
				}
			}
			if now["gm1"] != now["gm2"] {
				return errors.New("the members have different keys")
			}
			before = now
			return nil
		})
		out, err := w.Ping("h1", lab.Host(2), 3)
		if err != nil {
			t.Errorf("after %s: %v\n%s", command, err, out)
		}
	}
	w.until(30*time.Second, func() error {
		n, err := w.Counted("ks")
		if err == nil && n["acks"] < acks {
			err = fmt.Errorf("%d acknowledgements", n["acks"])
		}
		return err
	})
	frames, err := c.Stop()
	w.must(err)
	w.noneInClear()

	g := gang{T: t, ssl: rfcdecode.OpenSSL{Dir: t.TempDir()}, keys: phase1Keys(t, keys),
		talks: map[string]*talk{}, keks: map[string]*kekSeen{}, multicast: multicast}
	var rekeys []datagram
	for _, d := range isakmpDatagrams(frames) {
		if g.feed(d); d.isakmp[18] == rfcdecode.Push || d.isakmp[18] == rfcdecode.PushAck {
			rekeys = append(rekeys, d)
		}
	}
	t.Logf("%d rekeys (%d with a new KEK, %d with deletes, %d deleting all), %d acknowledgements, %d KEKs",
		g.rekeys, g.newKEKs, g.deletes, g.slates, g.acks, len(g.keks))
	for what, n := range map[string]int{"a rekey with a new KEK": g.newKEKs, "a rekey that deletes and brings policy": g.deletes, "a rekey that deletes all": g.slates} {
		if n == 0 {
			t.Errorf("the capture has not %s", what)
		}
	}
	if g.rekeys < 4 || g.acks < acks {
		t.Errorf("%d rekeys and %d acknowledgements", g.rekeys, g.acks)
	}
	judgeRekeyFrames(w, rekeys)
}

// spis returns the SPI of each member's newest data SA.
func (w *world) spis() map[string]uint32 {
	w.Helper()
	out := map[string]uint32{}
	for _, d := range w.gms {
		for _, m := range w.snapshot(d).Members {
			if len(m.TEKs) > 0 { // newest first
				out[d.Node] = m.TEKs[0].SPI
			}
		}
	}
	return out
}

// gang follows a group in a capture.
type gang struct {
	*testing.T
	ssl       rfcdecode.OpenSSL
	keys      map[string][]byte // of phase 1
	talks     map[string]*talk  // by initiator cookie
	keks      map[string]*kekSeen
	multicast bool

	rekeys, newKEKs, deletes, slates, acks int
}

// talk is a phase-1 SA and the policy that its last PULL offered.
type talk struct {
	rfcdecode.Conversation
	sa *rfcdecode.GroupSA
}

// kekSeen is a rekey SA that was downloaded, and what was sent under it.
type kekSeen struct {
	*rfcdecode.RekeySA
	fresh bool // brought by a rekey: the first message under it has number 1
	last  uint32
	sent  map[uint32]bool // numbers
}

// spiOf are the cookies of a message's header.
func spiOf(m *rfcdecode.Message) string { return string(m.ICookie[:]) + string(m.RCookie[:]) }

func (g *gang) problems(what string, ps []string) {
	g.Helper()
	for _, p := range ps {
		g.Errorf("%s: %s", what, p)
	}
}

func (g *gang) feed(p datagram) {
	d := p.isakmp
	h, ok := rfcdecode.Header(d)
	if !ok {
		g.Errorf("%v to %v: no ISAKMP header", p.Src, p.Dst)
		return
	}
	switch h.Exchange {
	case rfcdecode.Push:
		g.push(p, &h, d)
	case rfcdecode.PushAck:
		g.ack(p, &h, d)
	default:
		g.converse(&h, d)
	}
}

// converse follows phase 1 and PULL, and keeps the KEK that a PULL brings.
func (g *gang) converse(h *rfcdecode.Message, d []byte) {
	cookie := hex.EncodeToString(h.ICookie[:])
	c := g.talks[cookie]
	if c == nil {
		c = &talk{Conversation: rfcdecode.Conversation{Key: g.keys[cookie]}}
		g.talks[cookie] = c
	}
	m, fresh := c.Feed(d)
	if !fresh {
		return
	}
	g.problems(fmt.Sprintf("exchange %d, payloads %v", m.Exchange, m.Types()), m.Problems)
	if m.Exchange != rfcdecode.Pull {
		return
	}
	if p := m.Get(rfcdecode.TypeSA); p != nil {
		c.sa, _ = p.Value.(*rfcdecode.GroupSA)
	}
	p := m.Get(rfcdecode.TypeKD)
	if p == nil {
		return
	}
	kd, _ := p.Value.(*rfcdecode.KeyDownload)
	k, problems := rfcdecode.NewRekeySA(c.sa, kd, nil)
	g.problems("registration", problems)
	if k == nil {
		return
	}
	seq, _ := m.Get(rfcdecode.TypeSEQ).Value.(rfcdecode.Sequence)
	if seen := g.keks[string(k.SPI[:])]; seen == nil {
		g.keks[string(k.SPI[:])] = &kekSeen{RekeySA: k, last: uint32(seq), sent: map[uint32]bool{}}
	} else if uint32(seq) != seen.last {
		g.Errorf("a PULL says number %d, the last rekey under this KEK had %d", seq, seen.last)
	}
}

func (g *gang) push(p datagram, h *rfcdecode.Message, d []byte) {
	k := g.keks[spiOf(h)]
	if k == nil {
		g.Errorf("a rekey under an SPI that nobody was told: %x", spiOf(h))
		return
	}
	r := k.Open(d, false)
	g.problems(fmt.Sprintf("rekey %d, payloads %v", r.Seq, r.Types()), r.Problems)
	if err := g.ssl.Verify(k.RekeySA, r); err != nil {
		g.Errorf("rekey %d: %v", r.Seq, err)
	}
	if to := p.Dst.IsMulticast(); to != g.multicast && g.multicast {
		g.Logf("rekey %d goes to %v", r.Seq, p.Dst)
	} else if to && !g.multicast {
		g.Errorf("rekey %d goes to %v", r.Seq, p.Dst)
	}
	if k.sent[r.Seq] { // the same message to another member
		return
	}
	k.sent[r.Seq] = true
	g.rekeys++
	switch {
	case k.fresh && len(k.sent) == 1 && r.Seq != 1:
		g.Errorf("the first rekey under a new KEK has number %d", r.Seq)
	case r.Seq != k.last+1:
		g.Errorf("rekey %d follows %d", r.Seq, k.last)
	}
	k.last = r.Seq
	all := len(r.Deletes) > 0 && r.SA == nil
	for _, d := range r.Deletes {
		all = all && d.All()
	}
	switch {
	case all:
		g.slates++
	case len(r.Deletes) > 0 && r.SA != nil:
		g.deletes++
	}
	if r.Next == nil {
		return
	}
	spi := string(r.Next.SPI[:])
	if r.NewKEK() {
		g.newKEKs++
		if g.keks[spi] == nil {
			g.keks[spi] = &kekSeen{RekeySA: r.Next, fresh: true, sent: map[uint32]bool{}}
		}
	} else if string(r.Next.Key) != string(k.Key) || string(r.Next.IV) != string(k.IV) {
		g.Errorf("rekey %d: the SAK of the KEK in use has another key", r.Seq)
	}
}

func (g *gang) ack(p datagram, h *rfcdecode.Message, d []byte) {
	k := g.keks[spiOf(h)]
	if k == nil {
		g.Errorf("an acknowledgement under an SPI that nobody was told: %x", spiOf(h))
		return
	}
	a := k.OpenAck(d)
	g.problems(fmt.Sprintf("acknowledgement of %d", a.Seq), a.Problems)
	if len(a.Problems) > 0 {
		return
	}
	if err := g.ssl.VerifyAck(k.RekeySA, a); err != nil {
		g.Errorf("acknowledgement of %d: %v", a.Seq, err)
	}
	if !k.sent[a.Seq] {
		g.Errorf("acknowledgement of %d, which wasn't sent", a.Seq)
	}
	if id, ok := netip.AddrFromSlice(a.ID.Data); !ok || id != p.Src {
		g.Errorf("acknowledgement of %v from %v", a.ID, p.Src)
	}
	if p.SrcPort != 848 || p.DstPort != 848 || p.Dst != netip.MustParseAddr(lab.KeyServer) {
		g.Errorf("RFC 8263 §3: acknowledgement from port %d to %v port %d", p.SrcPort, p.Dst, p.DstPort)
	}
	g.acks++
}

// judgeRekeyFrames lets tshark dissect what it can: headers, lengths, the payloads of
// acknowledgements; nothing is malformed.
func judgeRekeyFrames(w *world, datagrams []datagram) {
	w.Helper()
	var frames []lab.Frame
	for _, d := range datagrams {
		frames = append(frames, d.frames...)
	}
	file := filepath.Join(w.TempDir(), "isakmp.pcap")
	w.must(lab.WritePcap(file, frames))
	out, err := w.Lab.Run("core", "tshark", "-n", "-r", file, "-d", "udp.port==848,isakmp", "-Y", "isakmp", "-T", "fields", "-E", "occurrence=f",
		"-e", "isakmp.exchangetype", "-e", "isakmp.flags", "-e", "isakmp.length", "-e", "udp.length", "-e", "_ws.malformed")
	w.must(err)
	n := 0
	for _, l := range strings.Split(out, "\n") {
		f := strings.Split(l, "\t")
		if len(f) < 4 {
			continue
		}
		n++
		var length, datagram int
		fmt.Sscan(f[2], &length)
		fmt.Sscan(f[3], &datagram)
		if want := map[string]string{"33": "0x01", "35": "0x00"}[f[0]]; want == "" || f[1] != want || length != datagram-8 || len(f) > 4 && f[4] != "" {
			w.Errorf("tshark: %q", l)
		}
	}
	if n != len(datagrams) {
		w.Errorf("tshark read %d of %d datagrams", n, len(datagrams))
	}
}
