// Package machine tells one machine from another, and a machine from its own past: a
// clone, or a virtual machine that was put back to a snapshot. Sealing under a counter
// mode is safe only as long as the counters in memory are the newest ones that ever
// were; a restored machine's aren't.
//
// Three sources, each optional, named in every report:
//
//   - the kernel's uevent NEW_VMGENID (Linux 6.10 with a VM generation ID device: QEMU,
//     Hyper-V, VMware, Firecracker): at the moment of the restore;
//   - QEMU's generation ID through fw_cfg, compared once a second (readable by root, the
//     module qemu_fw_cfg loaded);
//   - the hardware clock against boot time, compared once a second: it ran on while the
//     machine didn't. Anybody may read it. It says the same of a machine that was merely
//     paused, and of a hardware clock that somebody set ahead; both cost a registration
//     that wasn't needed.
//
// What no source closes: packets that are sealed between the resume and the notice, which
// is milliseconds with the uevent and up to a second of the machine's running time
// without it; a restore within 3 s of the snapshot where the hardware clock alone can
// tell; a machine with none of the three; and, of a clone without a generation ID device,
// random numbers that its kernel repeats until it reseeds itself: see Random, which mends
// that from the notice on for those who read from it. A group that must survive restores
// without a window uses a transform with random IVs, or machines with a generation ID.
package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// identity is what makes a machine this one, below Paths.Root. The boot isn't part of
// it: a rebooted machine is the same.
var identity = [...]struct {
	name, path string
	trim       bool // text with a line end
}{
	{"machine-id", "etc/machine-id", true},
	{"dmi-uuid", "sys/class/dmi/id/product_uuid", true},
	{"hypervisor-uuid", "sys/hypervisor/uuid", true},
	{"vmgenid", fwcfgGenID, false},
}

const (
	fwcfgGenID = "sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw"
	rtcEpoch   = "sys/class/rtc/rtc0/since_epoch"
)

// Generation is a machine's identity as far as it could be read.
type Generation struct {
	// Digest is hexadecimal; it differs after a clone, and after a restored snapshot where
	// there is a generation ID. State on disk that must not be used twice carries it.
	Digest string
	// Sources names what it was made of. With none of them the digest is the same on every
	// machine.
	Sources []string
}

// ReadGeneration reads the machine's identity below root ("" is /). What can't be read is
// left out, so a process with other rights sees another generation: to whoever keeps
// state that means a clean slate, never a wrong one.
func ReadGeneration(ctx context.Context, root string) (Generation, error) {
	h := sha256.New()
	var g Generation
	for _, s := range identity {
		if err := ctx.Err(); err != nil {
			return Generation{}, fmt.Errorf("machine: generation: %w", err)
		}
		b, err := readHead(filepath.Join("/", root, s.path))
		if err != nil {
			continue
		}
		if s.trim {
			b = trim(b)
		}
		if len(b) == 0 {
			continue
		}
		fmt.Fprintf(h, "%s %d\n%s\n", s.name, len(b), b)
		g.Sources = append(g.Sources, s.name)
	}
	g.Digest = hex.EncodeToString(h.Sum(nil)[:16])
	return g, nil
}

// headLen is what is read of a file: a generation ID has 16 octets, at 40 of its page.
const headLen = 64

// readHead reads the first octets of a file that may be a device's.
func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, headLen)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return b[:n], nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == ' ') {
		b = b[:len(b)-1]
	}
	return b
}
