package main

// Two key servers: which of them is primary, who registered where, and what happens to
// the group when the primary dies and comes back. The load stays on.

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"getvpn/internal/lab"
)

// group is what of a daemon's model the story reads.
type group struct {
	KeyServers []struct{ Members []struct{ Addr string } }
	Members    []struct{ RegisteredWith string }
}

const showCoop = "show crypto gdoi ks coop"

var coopLines = regexp.MustCompile(`(?m)^ +(?:Local (?:Address|Priority|KS Role)|Peer (?:Address|Priority|KS Role)|IKE status).*$`)

// roles waits until one key server is primary, the other secondary, and both say so.
func roles(primary, secondary *lab.Daemon) error {
	if err := role(primary, "Primary", "Secondary"); err != nil {
		return err
	}
	return role(secondary, "Secondary", "Primary")
}

func role(d *lab.Daemon, own, other string) error {
	_, err := d.Shows(time.Minute, showCoop, "Local KS Role: "+own, "Peer KS Role: "+other, "Peer KS Status: Alive", "IKE status: Established")
	return err
}

// spread checks that each member registered with the first of its list, and that both
// key servers know all of them.
func (s *story) spread() error {
	say("each member asked the first key server of its list:")
	for i, d := range s.gms {
		want := lab.KSAddr(1)
		if i == 1 {
			want = lab.KSAddr(2)
		}
		if err := registeredWith(d, want); err != nil {
			return err
		}
		say("   %s registered with %s", d.Node, want)
	}
	return s.allKnow(s.kss)
}

// registeredWith checks which key server a member registered with.
func registeredWith(d *lab.Daemon, want string) error {
	var m group
	if err := d.Snapshot(&m); err != nil {
		return err
	}
	if len(m.Members) != 1 || m.Members[0].RegisteredWith != want {
		return fmt.Errorf("%s registered with %v, not with %s", d.Node, m.Members, want)
	}
	return nil
}

// allKnow waits until key servers know all members, wherever they registered.
func (s *story) allKnow(kss []*lab.Daemon) error {
	var members []string
	for i := range s.gms {
		members = append(members, lab.WAN(i+1))
	}
	for _, d := range kss {
		if err := knows(d, members); err != nil {
			return err
		}
		say("%s knows all %d of them", d.Node, len(s.gms))
	}
	return nil
}

// knows waits until a key server knows these members, each once, and no others.
func knows(d *lab.Daemon, members []string) error {
	want := slices.Sorted(slices.Values(members))
	return lab.Until(time.Minute, func() error {
		var m group
		if err := d.Snapshot(&m); err != nil {
			return err
		}
		var known []string
		for _, g := range m.KeyServers {
			for _, x := range g.Members {
				known = append(known, x.Addr)
			}
		}
		if slices.Sort(known); !slices.Equal(known, want) {
			return fmt.Errorf("%s knows %s, not each of %s once", d.Node, known, want)
		}
		return nil
	})
}

func (s *story) failover() error {
	for _, d := range s.kss {
		if err := excerpt(d, showCoop, coopLines); err != nil {
			return err
		}
	}
	old, err := s.agree(kek{}, 0)
	if err != nil {
		return err
	}
	dead, heir := s.kss[0], s.kss[1]
	hear := s.listen()
	at := time.Now()
	if err := dead.Kill(); err != nil {
		return err
	}
	say("%s is killed, without a farewell. %s misses it for 10 s, asks three times, elects:", dead.Node, heir.Node)
	if err := hear.hear(heir, "COOP_KS_UNREACH", "COOP_KS_ELECTION", "COOP_KS_TRANS_TO_PRI"); err != nil {
		return err
	}
	say("%s leads %.1f s after the kill. Its first rekey brings a new KEK: what %s sent last under", heir.Node, time.Since(at).Seconds(), dead.Node)
	say("the old one nobody can ask, and numbers mustn't repeat.")
	s.ks = heir
	if err := hear.hear(heir, "KS_SEND_UNICAST_REKEY"); err != nil {
		return err
	}
	for i, d := range s.gms {
		if err := hear.hear(d, "from "+lab.KSAddr(2)+" to "+lab.WAN(i+1)); err != nil {
			return err
		}
	}
	now, err := s.agree(old, 0)
	if err != nil {
		return err
	}
	say("all three members, wherever they had registered, %.1f s after the kill:", time.Since(at).Seconds())
	say("   the KEK was %s…, message %d", old.spi[:18], old.seq)
	say("   the KEK is  %s…, message %d", now.spi[:18], now.seq)
	return s.load.account()
}

func (s *story) comesBack() error {
	primary, back := s.ks, s.kss[0]
	hear := s.listen()
	back, err := s.l.Daemon(back.Node, back.Conf)
	if err != nil {
		return err
	}
	s.kss[0] = back
	if err := roles(primary, back); err != nil {
		return err
	}
	for _, d := range s.kss {
		if err := excerpt(d, showCoop, coopLines); err != nil {
			return err
		}
	}
	say("Its priority is higher, but nobody drives a primary out. Since it was killed it can't be")
	say("sure which Sender IDs it gave out last: the primary makes new keys, for which none is")
	say("given out yet, and the members come for them within a minute. Until then they use what")
	say("they have.")
	if err := hear.hear(primary, "COOP_KS_REACH", "KS_REINIT_FINISH", "KS_SEND_UNICAST_REKEY"); err != nil {
		return err
	}
	for _, d := range s.gms {
		if err := hear.hear(d, "GM_RECV_DELETE"); err != nil {
			return err
		}
	}
	return s.loadDown()
}
