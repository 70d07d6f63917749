package main

// The life of the group, under load: a rekey, a policy change, a KEK rollover. After
// each of them the load is counted.

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"getvpn/internal/lab"
)

// ear hears what the daemons have logged since it was made.
type ear struct {
	s    *story
	from map[string]int // octets of each log
}

func (s *story) listen() *ear {
	l := &ear{s, map[string]int{}}
	for _, d := range s.daemons() {
		l.from[d.Node] = len(d.Output())
	}
	return l
}

func (s *story) daemons() []*lab.Daemon { return slices.Concat(s.kss, s.gms) }

// hear waits until a daemon says the texts, and quotes its new lines that hold one of
// them.
func (l *ear) hear(d *lab.Daemon, texts ...string) error {
	var quoted []string
	err := lab.Until(time.Minute, func() error {
		fresh := d.Output()[l.from[d.Node]:]
		quoted = nil
		for _, t := range texts {
			n := len(quoted)
			for _, line := range strings.Split(fresh, "\n") {
				if strings.Contains(line, t) {
					quoted = append(quoted, line)
				}
			}
			if n == len(quoted) {
				return fmt.Errorf("%s hasn't said %q", d.Node, t)
			}
		}
		return nil
	})
	say("%s says:", d.Node)
	quote(strings.Join(quoted, "\n"), 8)
	return err
}

// command gives one at a daemon, and prints it as typed. It returns when.
func command(d *lab.Daemon, line string) (time.Time, error) {
	at := time.Now()
	out, err := d.Show(line)
	say("%s# %s", d.Node, line)
	if strings.TrimSpace(out) != "" {
		quote(out, 8)
	}
	return at, err
}

// excerpt prints a command at a daemon and the lines of its output that match.
func excerpt(d *lab.Daemon, line string, want *regexp.Regexp) error {
	out, err := d.Show(line)
	if err != nil {
		return err
	}
	found := want.FindAllString(out, -1)
	say("%s# %s", d.Node, line)
	quote(strings.Join(found, "\n"), 12)
	if len(found) == 0 {
		return fmt.Errorf("nothing matches %s in:\n%s", want, out)
	}
	return nil
}

var (
	saLines  = regexp.MustCompile(`(?m)^ +(?:spi: .*|transform: .*|sa timing.*)$`)
	aclLines = regexp.MustCompile(`(?m)^ +access-list .*$`)
	kekLines = regexp.MustCompile(`(?m)^ +(?:spi :|seq num).*$`)
	ackLine  = regexp.MustCompile(`(?m)^ +Acks received.*$`)
)

// aes256 is how show crypto gdoi names the transform that the policy change brings.
const aes256 = "esp-256-gcm"

const showRekeySA = "show crypto gdoi rekey sa detail"

// tek is what a member shows of the key that it got last.
var tek = regexp.MustCompile(`TEK POLICY[^$]*?spi: 0x([0-9A-F]{8})[^$]*?transform: (\S+)`)

// newestTEK waits until all members have the same newest key, with another SPI than
// old, and returns its SPI and transform.
func (s *story) newestTEK(old uint32) (spi uint32, transform string, err error) {
	err = lab.Until(time.Minute, func() error {
		spi = 0
		for _, d := range s.gms {
			out, err := d.Show("show crypto gdoi")
			if err != nil {
				return err
			}
			m := tek.FindStringSubmatch(out)
			if m == nil {
				return fmt.Errorf("%s shows no TEK:\n%s", d.Node, out)
			}
			n, err := strconv.ParseUint(m[1], 16, 32)
			if err != nil {
				return err
			}
			if spi == 0 {
				spi, transform = uint32(n), m[2]
			}
			if uint32(n) != spi || spi == old {
				return fmt.Errorf("%s has SPI %#08x, %s %#08x, before %#08x", d.Node, n, s.gms[0].Node, spi, old)
			}
		}
		return nil
	})
	return spi, transform, err
}

func (s *story) rekey() error {
	old, err := s.load.now()
	if err != nil {
		return err
	}
	if err := excerpt(s.gms[0], "show crypto gdoi", saLines); err != nil {
		return err
	}
	hear := s.listen()
	at, err := command(s.ks, "crypto gdoi ks rekey replace-now")
	if err != nil {
		return err
	}
	if err := hear.hear(s.ks, "KS_SEND_UNICAST_REKEY"); err != nil {
		return err
	}
	for _, d := range s.gms {
		if err := hear.hear(d, "GM_RECV_REKEY", "SA_TEK_UPDATED"); err != nil {
			return err
		}
	}
	next, _, err := s.newestTEK(old)
	if err != nil {
		return err
	}
	if err := excerpt(s.gms[0], "show crypto gdoi", saLines); err != nil {
		return err
	}
	say("(All have the new key now and receive with it. They begin to send with it together,")
	say("12 s after it was made: by then a message that was lost has been repeated.)")
	if err := s.load.switched(next, at); err != nil {
		return err
	}
	return s.load.account()
}

// policyChange takes the denied host's exception away and changes the transform.
func (s *story) policyChange() error {
	before, err := s.l.Counted("core")
	if err != nil {
		return err
	}
	spi, err := s.load.now()
	if err != nil {
		return err
	}
	hear := s.listen()
	lines := []string{"configure terminal",
		"ip access-list extended PROTECTED",
		"no deny ip host " + lab.DeniedHost(2) + " any",
		"no deny ip any host " + lab.DeniedHost(2),
		"exit",
		"crypto ipsec transform-set GCM256 esp-gcm 256",
		"exit",
		"crypto ipsec profile GROUP",
		"set transform-set GCM256",
		"exit",
		"show configuration consequences",
		"end"}
	out, err := s.ks.Type(s.ks.Node, lines...)
	quote(out, 40)
	if err != nil {
		return err
	}
	if n := strings.Count(out, "  rekey now "); n != 2 {
		return fmt.Errorf("%d consequences are a rekey now, not 2", n)
	}
	if err := hear.hear(s.ks, "KS_SEND_UNICAST_REKEY", "CONFIG_I"); err != nil {
		return err
	}
	if err := hear.hear(s.gms[0], "GM_RECV_REKEY"); err != nil {
		return err
	}
	if _, transform, err := s.newestTEK(spi); err != nil || transform != aes256 {
		return errors.Join(fmt.Errorf("the newest transform is %s", transform), err)
	}
	other := s.kss[1]
	if err := hear.hear(other, "COOP_CONFIG_MISMATCH"); err != nil {
		return err
	}
	if _, err := other.Type(other.Node, lines...); err != nil {
		return err
	}
	say("%s gets the same lines; members don't hear of it.", other.Node)
	if err := excerpt(s.gms[0], "show crypto gdoi", aclLines); err != nil {
		return err
	}
	if err := excerpt(s.gms[0], "show crypto gdoi", saLines); err != nil {
		return err
	}
	say("(The list counts at once. The key of the new transform waits beside the old one until")
	say("that ends or, in the next step, is replaced.)")
	const n = 10
	if out, err := s.l.Ping("h1", lab.DeniedHost(2), n); err != nil {
		return errors.Join(err, errors.New(out))
	}
	after, err := s.l.Counted("core")
	if err != nil {
		return err
	}
	say("%d pings from h1 to %s, readable in step 7: now %d packets as ESP, %d in clear", n, lab.DeniedHost(2),
		after["hidden"]-before["hidden"], after["denied"]-before["denied"])
	if after["hidden"]-before["hidden"] != 2*n || after["denied"] != before["denied"] {
		return errors.New("the new list doesn't count")
	}
	return s.load.account()
}

// kek is what a daemon shows of its KEK.
type kek struct {
	spi string
	seq int
}

var (
	kekSPI = regexp.MustCompile(`spi : (0x[0-9A-F]{32})`)
	kekSeq = regexp.MustCompile(`seq num +: (\d+)`)
)

func kekOf(d *lab.Daemon) (k kek, err error) {
	out, err := d.Show(showRekeySA)
	if err != nil {
		return k, err
	}
	spi, seq := kekSPI.FindStringSubmatch(out), kekSeq.FindStringSubmatch(out)
	if spi == nil || seq == nil {
		return k, fmt.Errorf("%s shows no KEK:\n%s", d.Node, out)
	}
	k.spi = spi[1]
	k.seq, err = strconv.Atoi(seq[1])
	return k, err
}

// agree waits until the key server and all members have a KEK other than old and count
// the same number of its messages, so many at least.
func (s *story) agree(old kek, messages int) (kek, error) {
	var now kek
	err := lab.Until(time.Minute, func() error {
		var err error
		if now, err = kekOf(s.ks); err != nil {
			return err
		}
		for _, d := range s.gms {
			k, err := kekOf(d)
			if err != nil {
				return err
			}
			if k != now || k.spi == old.spi {
				return fmt.Errorf("%s has KEK %s, message %d; the key server %s, message %d", d.Node, k.spi, k.seq, now.spi, now.seq)
			}
		}
		if now.seq < messages {
			return fmt.Errorf("%d messages came under KEK %s, not %d", now.seq, now.spi, messages)
		}
		return nil
	})
	return now, err
}

func (s *story) kekRollover() error {
	before, _, err := s.newestTEK(0)
	if err != nil {
		return err
	}
	old, err := s.agree(kek{}, 0)
	if err != nil {
		return err
	}
	if err := excerpt(s.gms[0], showRekeySA, kekLines); err != nil {
		return err
	}
	hear := s.listen()
	at, err := command(s.ks, "clear crypto gdoi ks policy")
	if err != nil {
		return err
	}
	if err := hear.hear(s.ks, "KS_SEND_UNICAST_REKEY"); err != nil {
		return err
	}
	if err := hear.hear(s.gms[0], "GM_RECV_REKEY", "SA_KEK_UPDATED"); err != nil {
		return err
	}
	now, err := s.agree(old, 0)
	if err != nil {
		return err
	}
	replaced, _, err := s.newestTEK(before)
	if err != nil {
		return err
	}
	// The first message under the new KEK. It brings yet another data key.
	hear = s.listen()
	if _, err := command(s.ks, "crypto gdoi ks rekey"); err != nil {
		return err
	}
	if err := hear.hear(s.ks, "KS_SEND_UNICAST_REKEY"); err != nil {
		return err
	}
	if err := hear.hear(s.gms[0], "GM_RECV_REKEY"); err != nil {
		return err
	}
	first, err := s.agree(old, 1)
	if err != nil {
		return err
	}
	if err := excerpt(s.gms[0], showRekeySA, kekLines); err != nil {
		return err
	}
	if err := excerpt(s.ks, "show crypto gdoi ks rekey", ackLine); err != nil {
		return err
	}
	say("all three members: the KEK was %s…, message %d", old.spi[:18], old.seq)
	say("                   the KEK is  %s…, message %d", first.spi[:18], first.seq)
	if first.spi != now.spi {
		return errors.New("the first message under the new KEK brought another one")
	}
	next, transform, err := s.newestTEK(replaced)
	if err != nil {
		return err
	}
	if err := s.load.switched(next, at); err != nil {
		return err
	}
	say("(All older keys are replaced: until the newest may be used, the youngest that may is.)")
	say("the transform is %s now, as the changed policy wants", transform)
	if transform != aes256 {
		return errors.New("that isn't AES-256")
	}
	return s.load.account()
}
