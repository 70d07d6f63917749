package e2e

// What captures of ISAKMP need: programs that log the phase-1 keys, and datagrams put
// together from their fragments.

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"getvpn/internal/lab"
	"getvpn/test/rfcdecode"
)

// keylogBuild are the programs with the key log.
var keylogBuild = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(tempDir, "keylog")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, lab.Build(dir, "-tags", "keylog")
})

// newOpenWorld is a world of daemons that log their phase-1 keys, and the log's name.
func newOpenWorld(t *testing.T, members int) (w *world, keys string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	built, err := keylogBuild()
	if err != nil {
		t.Fatal(err)
	}
	// The environment is the process's, which other tests share: each lab has a getvpnd
	// that sets its own.
	bin := t.TempDir()
	keys = filepath.Join(bin, "keys")
	script := fmt.Sprintf("#!/bin/sh\nGETVPN_IKE_KEYLOG='%s' exec '%s' \"$@\"\n", keys, filepath.Join(built, "getvpnd"))
	if err := errors.Join(os.WriteFile(filepath.Join(bin, "getvpnd"), []byte(script), 0o700),
		os.Symlink(filepath.Join(built, "getvpn"), filepath.Join(bin, "getvpn"))); err != nil {
		t.Fatal(err)
	}
	return newWorld(t, lab.Options{Members: members, Bin: bin}), keys
}

// phase1Keys reads the key log: initiator cookie to key.
func phase1Keys(t *testing.T, file string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, line := range strings.Fields(string(text)) {
		cookie, key, ok := strings.Cut(line, ",")
		if out[cookie], err = hex.DecodeString(key); err != nil || !ok {
			t.Fatalf("key log %q: %v", line, err)
		}
	}
	if len(out) == 0 {
		t.Fatal("the key log is empty")
	}
	return out
}

// datagram is a UDP datagram on the ISAKMP ports with the frames that it came in.
type datagram struct {
	lab.Packet // of the first fragment
	isakmp     []byte
	frames     []lab.Frame
}

// isakmpDatagrams reassembles a capture. Frames must be whole.
func isakmpDatagrams(frames []lab.Frame) []datagram {
	type key struct {
		src, dst netip.Addr
		id       uint16
	}
	type part struct {
		lab.Packet
		frame lab.Frame
	}
	parts := map[key][]part{}
	var out []datagram
	for _, f := range frames {
		p, ok := f.IP()
		if !ok || p.Proto != 17 {
			continue
		}
		k := key{p.Src, p.Dst, p.ID}
		all := append(parts[k], part{p, f})
		parts[k] = all
		slices.SortStableFunc(all, func(a, b part) int { return a.FragOffset - b.FragOffset })
		var udp []byte
		d := datagram{Packet: all[0].Packet}
		for _, x := range all {
			if x.FragOffset == len(udp) {
				udp = append(udp, x.Payload...)
				d.frames = append(d.frames, x.frame)
			}
		}
		if len(udp) < 8 || len(udp) < int(binary.BigEndian.Uint16(udp[4:])) {
			continue
		}
		delete(parts, k)
		d.isakmp = udp[8:]
		if (d.SrcPort == 4500 || d.DstPort == 4500) && len(d.isakmp) > 4 {
			d.isakmp = d.isakmp[4:] // non-ESP marker
		}
		if len(d.isakmp) >= rfcdecode.HeaderLen {
			out = append(out, d)
		}
	}
	return out
}
