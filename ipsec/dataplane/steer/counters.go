package steer

// Reading what the programs counted.

import (
	"fmt"

	"github.com/cilium/ebpf"

	"getvpn/ipsec"
)

// InterfaceCounters counts packets since the first Attach of this process; a
// super-packet that is segmented later counts once.
type InterfaceCounters struct{ Egress, Ingress DirectionCounters }

// DirectionCounters is one program's, with those it replaced.
type DirectionCounters struct {
	Drops     [ipsec.NumDropReasons]uint64
	Passed    uint64   // judged by the policy and passed
	Protected uint64   // egress: sent to the TAP
	Own       uint64   // egress: of an allowed socket
	Taken     uint64   // ingress: our ESP and the ICMP errors about it
	Injected  uint64   // ingress: decrypted, from the TAP
	Control   uint64   // ARP, neighbour discovery, GDOI, closed list of ethertypes, tagged frames
	Rules     []uint64 // hits of the present ruleset, by rule
	Default   uint64   // hits of its default
}

// Counters of every attached interface, by its index.
func (s *Steering) Counters() (map[int]InterfaceCounters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[int]InterfaceCounters, len(s.ifs))
	for wan, f := range s.ifs {
		var c InterfaceCounters
		var err error
		if c.Egress, err = f.out.read(); err != nil {
			return nil, fmt.Errorf("steer: counters of interface %d: %w", wan, err)
		}
		if c.Ingress, err = f.in.read(); err != nil {
			return nil, fmt.Errorf("steer: counters of interface %d: %w", wan, err)
		}
		all[wan] = c
	}
	return all, nil
}

// retire makes count the present counters. The ones before stay open for one swap
// more, because a packet may still be inside the replaced program.
func (j *judge) retire(count *ebpf.Map) error {
	old := j.retiring
	j.retiring, j.count = j.count, count
	if old == nil {
		return nil
	}
	defer old.Close()
	v, err := readCount(old)
	if err != nil {
		return fmt.Errorf("steer: counters: %w", err)
	}
	if j.base == nil {
		j.base = make([]uint64, numStats)
	}
	for i := range j.base {
		j.base[i] += v[i]
	}
	return nil
}

func (j *judge) read() (c DirectionCounters, err error) {
	if j.count == nil {
		return c, nil
	}
	now, err := readCount(j.count)
	if err != nil {
		return c, err
	}
	sum := make([]uint64, numStats)
	copy(sum, j.base)
	for i := range sum {
		sum[i] += now[i]
	}
	if j.retiring != nil {
		v, err := readCount(j.retiring)
		if err != nil {
			return c, err
		}
		for i := range sum {
			sum[i] += v[i]
		}
	}
	copy(c.Drops[:], sum)
	c.Passed, c.Protected, c.Own = sum[statPassed], sum[statProtected], sum[statOwn]
	c.Taken, c.Injected, c.Control = sum[statTaken], sum[statInjected], sum[statControl]
	c.Rules, c.Default = now[numStats:len(now)-1], now[len(now)-1]
	return c, nil
}
