package main

// The key server's process: the product's engine on the kernel's sockets, as the daemon
// puts it together. State isn't kept; Sender IDs are, in a directory that goes.

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// KeyServer is what the key server's process can be asked for.
type KeyServer struct {
	process
	store *model.Store
	srv   *ks.Server
	state *ks.State
	ep    *ike.Endpoint
	group *ks.Group
	tap   *tap
}

// ServeOptions make the key server.
type ServeOptions struct {
	Life time.Duration // of TEKs
	Sign string        // how rekeys are signed: rsa (2048 bits) or ecdsa (P-256)
	Dir  string
	// Self and Peers are for one of several key servers; it has a hundred permits.
	Self  netip.Addr
	Peers []netip.Addr
}

// groups are the Diffie-Hellman groups that the key server takes.
var groups = []int{19, 14}

// Serve starts the engine.
func (k *KeyServer) Serve(o ServeOptions, _ *struct{}) error {
	signer, err := signer(o.Sign)
	if err != nil {
		return err
	}
	k.store = model.NewStore(model.Snapshot{Boot: time.Now()})
	bus := event.NewBus()
	sink := bus.Subscribe("log", 4096)
	go func() {
		for range sink.C() { // as a sink that keeps up
		}
	}()
	self := keyServer
	if o.Self.IsValid() {
		self = o.Self
	}
	k.ep, err = ike.New(ike.Options{Locals: []netip.Addr{self}, Control: share, Config: phase1(groups, crowdNet, serverNet), VendorIDs: vendorIDs(), Store: k.store, Events: bus})
	if err != nil {
		return fmt.Errorf("IKE endpoint: %w", err)
	}
	k.tap = &tap{Sender: k.ep}
	k.state = &ks.State{}
	k.srv = ks.NewServer(ks.Options{Store: k.store, Events: bus, Rand: rand.Reader, Files: ks.Disk{}, Dir: o.Dir, Machine: ks.MachineGeneration(), Push: k.tap,
		State: k.state, Peers: ks.NewEndpointPeers(k.ep)})
	k.ep.HandlePull(k.srv.HandlePull)
	k.ep.HandlePeerNotify(k.srv.HandlePeerNotify)
	x := setup(o.Life, signer, self)
	if len(o.Peers) > 0 {
		cooperate(x, o)
	}
	k.group, err = k.srv.Add(x)
	if err != nil {
		return err
	}
	go k.group.Run(context.Background())
	return nil
}

// share lets members' sockets, which are bound to no address, have the same port.
func share(c syscall.RawConn) error {
	var serr error
	err := c.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(err, serr)
}

// setup is the group: AES-GCM, so that each member has a Sender ID; ten permits; unicast
// rekeys that are acknowledged.
func setup(life time.Duration, s *ks.Signer, self netip.Addr) *ks.Setup {
	return &ks.Setup{
		Group: config.Group{Name: "scale", HasNumber: true, Number: groupNumber,
			Local: &config.LocalServer{Address: self, RekeyUnicast: true, RekeyAck: config.AckAny, RekeyLifetime: 24 * time.Hour, RekeyRetransmit: retransmit, RekeyNumber: 2}},
		SIDBits: 24,
		Entries: []ks.SetupEntry{{Seq: 1, Profile: "P", ACL: "A", Lifetime: life, ACEs: permits(10),
			Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}}},
		Rekey: &ks.SetupRekey{Cipher: gdoi.KEKAESCBC, KeyBits: 128, Hash: gdoi.SigHashSHA256, Lifetime: 24 * time.Hour, Signer: s,
			Ack: gdoi.AckKEKSHA256, Retransmits: 2, Interval: retransmit},
	}
}

// permits are n entries of a list.
func permits(n int) (list []ipsec.ACE) {
	for i := range n {
		list = append(list, ipsec.ACE{Seq: 10 * (i + 1), Action: ipsec.Permit, Family: ipsec.IPv4,
			Src: ipsec.MatchPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)), Dst: ipsec.MatchPrefix(netip.MustParsePrefix("172.16.0.0/16"))})
	}
	return list
}

// retransmit is the time between transmissions of a rekey.
const retransmit = 10 * time.Second

func signer(kind string) (*ks.Signer, error) {
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		err = fmt.Errorf("rekeys are signed by rsa or ecdsa, not %q", kind)
	}
	if err != nil {
		return nil, err
	}
	return ks.NewSigner(key)
}

// Counts is what the key server's part of the model says.
type Counts struct {
	Registered   uint64
	Acknowledged uint64
	OctetsCopied uint64 // of the model's table of members, for all publications so far
	Rejected     map[string]uint64
	Drops        map[string]uint64 // of the endpoint, by reason
}

// Counts reads the model as a manager would.
func (k *KeyServer) Counts(_ struct{}, c *Counts) error {
	s := k.store.Load()
	if len(s.KeyServers) == 0 {
		return errors.New("no group is published")
	}
	g := &s.KeyServers[0]
	*c = Counts{Registered: g.Counters.PullsCompleted, Acknowledged: g.Counters.AcksRcvd,
		OctetsCopied: g.Counters.OctetsCopied, Rejected: g.Rejected, Drops: s.IKE.Drops}
	return nil
}

// Rekeyed is a rekey as the key server saw it.
type Rekeyed struct {
	Took      time.Duration // from the trigger to the last acknowledgement
	Sending   time.Duration // to the end of the first transmission
	Shown     time.Duration // until the model says that nobody is missing
	Datagrams int           // sent
	Rekey     []byte        // the message
	Ack       int           // octets of an acknowledgement
}

// tooLong is when a rekey has failed: all its retransmissions are over.
const tooLong = 2 * time.Minute

// Rekey sends one and waits for the acknowledgements of all members. Keys that are
// replaced end early, so that each message carries as much as the one before.
func (k *KeyServer) Rekey(members int, r *Rekeyed) error {
	all := k.tap.expect(members)
	begin := time.Now()
	if err := k.group.Rekey(true, false); err != nil {
		return err
	}
	select {
	case at := <-all:
		r.Took = at.Sub(begin)
	case <-time.After(tooLong):
		return fmt.Errorf("%d acknowledgements of %d", k.tap.acks.Load(), members)
	}
	for k.store.Load().KeyServers[0].Unanswered > 0 {
		if time.Since(begin) > tooLong {
			return fmt.Errorf("the model waits for %d", k.store.Load().KeyServers[0].Unanswered)
		}
		time.Sleep(time.Millisecond)
	}
	r.Shown = time.Since(begin)
	k.tap.report(begin, r)
	return nil
}

// Echoed is a round of echoes.
type Echoed struct{ Took time.Duration }

// Echo measures the lower bound.
func (k *KeyServer) Echo(a EchoArgs, r *Echoed) (err error) {
	r.Took, err = echo(a)
	return err
}

// Bare measures public-key operations alone.
func (k *KeyServer) Bare(a BareArgs, r *Bare) (err error) {
	*r, err = bare(a)
	return err
}
