package main

// The measurements, one after the other, each with processes of its own.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func inside(o options, w io.Writer) error {
	if err := furnish(); err != nil {
		return err
	}
	for _, s := range strings.Split(o.only, ",") {
		var err error
		switch s {
		case "rekey":
			err = measureRekey(o, w)
		case "register":
			err = measureRegistration(o, w)
		case "crowd":
			err = measureCrowd(o, w)
		case "late":
			err = measureLate(o, w)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// pair is a key server and its members.
type pair struct {
	ks, gm *child
	dir    string
	fresh  Usage // of the key server, before anybody came
}

func newPair(o options, life time.Duration) (p *pair, err error) {
	p = &pair{}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	if p.dir, err = os.MkdirTemp("", "scale"); err != nil {
		return p, err
	}
	if p.ks, err = start(keyServerRole); err != nil {
		return p, err
	}
	if p.gm, err = start(crowdRole); err != nil {
		return p, err
	}
	if err = p.gm.call("Begin", CrowdOptions{o.members}, nil); err != nil {
		return p, err
	}
	if err = p.ks.call("Serve", ServeOptions{Life: life, Sign: o.sign, Dir: p.dir}, nil); err != nil {
		return p, err
	}
	p.fresh, err = p.ks.used(true)
	return p, err
}

func (p *pair) stop() {
	for _, c := range []*child{p.gm, p.ks} {
		if c != nil {
			c.stop()
		}
	}
	os.RemoveAll(p.dir)
}

// spent runs f and returns the processor time that both sides spent on it.
func (p *pair) spent(f func() error) (ks, gm time.Duration, err error) {
	var before, after [2]Usage
	read := func(to *[2]Usage) (err error) {
		if to[0], err = p.ks.used(false); err == nil {
			to[1], err = p.gm.used(false)
		}
		return err
	}
	if err = read(&before); err == nil {
		err = f()
	}
	if err == nil {
		time.Sleep(settling)
		err = read(&after)
	}
	return after[0].CPU - before[0].CPU, after[1].CPU - before[1].CPU, err
}

// settling is how long an engine may be busy behind the last message: it publishes
// within a tenth of a second.
const settling = 250 * time.Millisecond

// register registers everybody.
func (p *pair) register(o options, dh int) (r Registered, ksCPU, gmCPU time.Duration, err error) {
	ksCPU, gmCPU, err = p.spent(func() error { return p.gm.call("Register", RegisterArgs{o.parallel, dh}, &r) })
	if err != nil {
		return r, ksCPU, gmCPU, err
	}
	c, err := p.counts()
	if err == nil && c.Registered < uint64(o.members) {
		err = fmt.Errorf("the key server counts %d registrations of %d", c.Registered, o.members)
	}
	return r, ksCPU, gmCPU, err
}

func (p *pair) counts() (c Counts, err error) {
	err = p.ks.call("Counts", struct{}{}, &c)
	return c, err
}

// profiled runs f under both sides' profiles, where they are wanted.
func (p *pair) profiled(o options, section string, f func() error) error {
	if o.profile == "" {
		return f()
	}
	for _, c := range []*child{p.ks, p.gm} {
		if err := c.call("Profile", o.profile+"."+section+"."+c.name, nil); err != nil {
			return err
		}
	}
	err := f()
	for _, c := range []*child{p.ks, p.gm} {
		err = errors.Join(err, c.call("Profile", "", nil))
	}
	return err
}

// rekeyRound is one round of what is compared: a rekey, and echoes where members do the
// same work; a rekey that members answer unread, and plain echoes.
type rekeyRound struct{ rekey, work, unread, echo cost }

// cost is what one of them took.
type cost struct{ took, ks, gm time.Duration }

func measureRekey(o options, w io.Writer) error {
	p, err := newPair(o, time.Hour)
	if err != nil {
		return err
	}
	defer p.stop()
	if _, _, _, err := p.register(o, 19); err != nil {
		return err
	}
	full, err := p.ks.used(true)
	if err != nil {
		return err
	}
	var last Rekeyed
	rekey := func(unread bool) (c cost, err error) {
		if unread {
			if err := p.gm.call("Prepare", struct{}{}, nil); err != nil {
				return c, err
			}
		}
		c.ks, c.gm, err = p.spent(func() error { return p.ks.call("Rekey", o.members, &last) })
		c.took = last.Took
		return c, err
	}
	echo := func(work bool) (c cost, err error) {
		if err := p.gm.call("Answer", EchoAnswer{last.Ack, work}, nil); err != nil {
			return c, err
		}
		var e Echoed
		c.ks, c.gm, err = p.spent(func() error { return p.ks.call("Echo", EchoArgs{o.members, last.Rekey}, &e) })
		c.took = e.Took
		return c, err
	}
	if _, err := rekey(false); err != nil { // nobody's first time counts
		return err
	}
	before, err := p.counts()
	if err != nil {
		return err
	}
	var rounds []rekeyRound
	shown := last
	err = p.profiled(o, "rekey", func() error {
		for i := range o.rounds {
			var r rekeyRound
			steps := []func() error{
				func() (err error) { r.rekey, err = rekey(false); shown = last; return err },
				func() (err error) { r.work, err = echo(true); return err },
				func() (err error) { r.unread, err = rekey(true); return err },
				func() (err error) { r.echo, err = echo(false); return err },
			}
			if i%2 == 1 {
				slices.Reverse(steps)
			}
			for _, s := range steps {
				if err := s(); err != nil {
					return fmt.Errorf("round %d: %w", i+1, err)
				}
			}
			rounds = append(rounds, r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	busy, err := p.ks.used(false)
	if err != nil {
		return err
	}
	after, err := p.counts()
	if err != nil {
		return err
	}
	copied := float64(after.OctetsCopied-before.OctetsCopied) / float64(after.Acknowledged-before.Acknowledged)
	var t Tally
	if err := p.gm.call("Tally", struct{}{}, &t); err != nil {
		return err
	}
	rekeyReport{o, rounds, shown, t, copied, p.fresh, full, busy}.print(w)
	return nil
}

// registerRound is one round for one Diffie-Hellman group.
type registerRound struct {
	bare Bare
	took time.Duration
	cost // of all
}

func measureRegistration(o options, w io.Writer) error {
	for _, dh := range []int{14, 19} {
		var rounds []registerRound
		failed := map[string]int{}
		for range (o.rounds + 1) / 2 {
			r, f, err := registrationRound(o, dh)
			if err != nil {
				return fmt.Errorf("group %d: %w", dh, err)
			}
			rounds = append(rounds, r)
			for k, n := range f {
				failed[k] += n
			}
		}
		registerReport{o, dh, rounds, failed}.print(w)
	}
	return nil
}

func registrationRound(o options, dh int) (r registerRound, failed map[string]int, err error) {
	p, err := newPair(o, time.Hour)
	if err != nil {
		return r, nil, err
	}
	defer p.stop()
	var got Registered
	var bare [2]Bare // the machine may be busier before than after
	err = errors.Join(
		p.ks.call("Bare", BareArgs{dh, o.bare}, &bare[0]),
		p.profiled(o, fmt.Sprintf("register%d", dh), func() (err error) {
			got, r.ks, r.gm, err = p.register(o, dh)
			return err
		}),
		p.ks.call("Bare", BareArgs{dh, o.bare}, &bare[1]))
	r.took = got.Took
	r.bare = Bare{CPU: (bare[0].CPU + bare[1].CPU) / 2, Rate: (bare[0].Rate + bare[1].Rate) / 2}
	return r, got.Failed, err
}

// measureCrowd lets a group's TEK end: the key server's rekeys are lost on the way to
// everybody.
func measureCrowd(o options, w io.Writer) error {
	p, err := newPair(o, o.life)
	if err != nil {
		return err
	}
	defer p.stop()
	if _, _, _, err := p.register(o, 19); err != nil {
		return err
	}
	if err := p.gm.call("Deaf", true, nil); err != nil {
		return err
	}
	var again Again
	var c cost
	err = p.profiled(o, "crowd", func() (err error) {
		c.ks, c.gm, err = p.spent(func() error { return p.gm.call("Again", AgainArgs{14}, &again) })
		return err
	})
	if err != nil {
		return err
	}
	counts, err := p.counts()
	if err != nil {
		return err
	}
	crowdReport{o, again, c, counts}.print(w)
	return nil
}
