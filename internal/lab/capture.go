package lab

// Captures by tcpdump, read back by this package, and loss-free counters by
// nftables: a capture shows what passed, a counter proves how much.

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Capture is a running or finished capture.
type Capture struct {
	File string
	proc *Proc
	read int64 // octets of the file that More has returned
}

// Capture starts tcpdump on a node's interface ("any" isn't supported: the frames
// must be Ethernet) with a filter in its language, snaplen octets of each frame (0:
// whole). It returns when the capture runs.
func (l *Lab) Capture(name, node, dev string, snaplen int, filter ...string) (*Capture, error) {
	c := &Capture{File: filepath.Join(l.Dir, name+".pcap")}
	args := []string{"-n", "-i", dev, "--immediate-mode", "-U", "-Z", "root", "-B", "16384", "-s", strconv.Itoa(snaplen), "-w", c.File, strings.Join(filter, " ")}
	p, err := l.Start(name+".tcpdump", node, "tcpdump", args...)
	if err != nil {
		return nil, err
	}
	c.proc = p
	if err := p.Says(30*time.Second, "listening on"); err != nil {
		return nil, err
	}
	return c, nil
}

// tcpdumpCounts is what tcpdump prints at SIGUSR1 and at its end.
var tcpdumpCounts = regexp.MustCompile(`(\d+) packets? captured\D+(\d+) packets? received by filter\D+(\d+) packets? dropped by kernel`)

// counts returns how often tcpdump has told its counts, and the last ones.
func (c *Capture) counts() (told, captured, received, dropped int) {
	all := tcpdumpCounts.FindAllStringSubmatch(c.proc.Output(), -1)
	if len(all) == 0 {
		return 0, 0, 0, 0
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(all[len(all)-1][i+1])
	}
	return len(all), n[0], n[1], n[2]
}

// Stop ends the capture and returns its frames. Frames that the capture itself lost
// are an error: it proves nothing then.
func (c *Capture) Stop() ([]Frame, error) {
	if c.proc.Alive() {
		// What the kernel has matched but tcpdump not yet written would be lost.
		if err := Until(30*time.Second, func() error {
			before, _, _, _ := c.counts()
			c.proc.Signal(syscall.SIGUSR1)
			return Until(time.Second, func() error {
				told, captured, received, _ := c.counts()
				if told == before || captured < received {
					return fmt.Errorf("lab: %s has written %d of %d frames", c.proc.Name, captured, received)
				}
				return nil
			})
		}); err != nil {
			return nil, err
		}
		c.proc.Signal(syscall.SIGINT)
		if err := c.proc.Wait(30 * time.Second); err != nil {
			return nil, err
		}
	}
	if told, _, _, dropped := c.counts(); told == 0 || dropped != 0 {
		return nil, fmt.Errorf("lab: %s lost frames or ended badly: %s", c.proc.Name, tail(c.proc.Output()))
	}
	return ReadPcap(c.File)
}

// Frame is one captured Ethernet frame.
type Frame struct {
	At   time.Time
	Len  int    // on the wire
	Data []byte // as captured
}

// pcapHeader is the length of the file's header, pcapFrame that before each frame.
const pcapHeader, pcapFrame = 24, 16

// ReadPcap reads a capture file of the classic format with Ethernet frames.
func ReadPcap(file string) ([]Frame, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	le := binary.LittleEndian
	if len(b) < pcapHeader || le.Uint32(b) != 0xa1b2c3d4 || le.Uint32(b[20:]) != 1 {
		return nil, fmt.Errorf("lab: %s is no little-endian pcap file of Ethernet frames", file)
	}
	out, _ := pcapFrames(b[pcapHeader:])
	return out, nil
}

// pcapFrames returns the whole frames in b, and the octets that they take.
func pcapFrames(b []byte) (out []Frame, read int) {
	le := binary.LittleEndian
	for len(b) >= pcapFrame {
		n := int(le.Uint32(b[8:]))
		if len(b) < pcapFrame+n {
			break // tcpdump was still writing it
		}
		out = append(out, Frame{At: time.Unix(int64(le.Uint32(b)), int64(le.Uint32(b[4:]))*1000),
			Len: int(le.Uint32(b[12:])), Data: b[pcapFrame : pcapFrame+n]})
		b = b[pcapFrame+n:]
		read += pcapFrame + n
	}
	return out, read
}

// More returns the frames that were written since the last call, while the capture
// runs or afterwards.
func (c *Capture) More() ([]Frame, error) {
	f, err := os.Open(c.File)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer f.Close()
	c.read = max(c.read, pcapHeader)
	b, err := io.ReadAll(io.NewSectionReader(f, c.read, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	out, n := pcapFrames(b)
	c.read += int64(n)
	return out, nil
}

// Packet is what of an IP packet the lab judges.
type Packet struct {
	Src, Dst         netip.Addr
	Proto            uint8
	TOS, TTL         uint8
	ID               uint16
	DF               bool
	FragOffset       int    // octets
	SrcPort, DstPort uint16 // UDP and TCP, first fragments
	SPI, Seq         uint32 // ESP, first fragments
	Payload          []byte // after the IP header, as captured
}

// ESP is its protocol number.
const ESP = 50

// IP reads the frame's IP packet; ok is false when it is none.
func (f Frame) IP() (p Packet, ok bool) {
	if len(f.Data) < 14+20 {
		return p, false
	}
	ip, be := f.Data[14:], binary.BigEndian
	switch be.Uint16(f.Data[12:]) {
	case 0x0800:
		n := int(ip[0]&15) * 4
		if ip[0]>>4 != 4 || n < 20 || len(ip) < n {
			return p, false
		}
		p.Src, p.Dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		p.TOS, p.TTL, p.Proto, p.ID = ip[1], ip[8], ip[9], be.Uint16(ip[4:])
		frag := be.Uint16(ip[6:])
		p.DF, p.FragOffset = frag&0x4000 != 0, int(frag&0x1fff)*8
		p.Payload = ip[n:]
		if total := int(be.Uint16(ip[2:])); total >= n && total <= len(ip) {
			p.Payload = ip[n:total]
		}
	case 0x86dd:
		if ip[0]>>4 != 6 || len(ip) < 40 {
			return p, false
		}
		p.Src, p.Dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		p.TOS, p.TTL, p.Proto, p.Payload = ip[0]<<4|ip[1]>>4, ip[7], ip[6], ip[40:]
	default:
		return p, false
	}
	if p.FragOffset == 0 && len(p.Payload) >= 8 {
		switch p.Proto {
		case 6, 17:
			p.SrcPort, p.DstPort = be.Uint16(p.Payload), be.Uint16(p.Payload[2:])
		case ESP:
			p.SPI, p.Seq = be.Uint32(p.Payload), be.Uint32(p.Payload[4:])
		}
	}
	return p, true
}

// Count installs named counters in a node's earliest hook: each rule is an nftables
// match, counted over all interfaces for packets that arrive there.
func (l *Lab) Count(node string, rules map[string]string) error {
	var b strings.Builder
	b.WriteString("table inet lab {\n")
	for name := range rules {
		fmt.Fprintf(&b, " counter c_%s { }\n", name)
	}
	b.WriteString(" chain c { type filter hook prerouting priority -350; policy accept;\n")
	for name, match := range rules {
		fmt.Fprintf(&b, "  %s counter name c_%s\n", match, name)
	}
	b.WriteString(" }\n}\n")
	_, err := l.Input(node, "add table inet lab\ndelete table inet lab\n"+b.String(), "nft", "-f", "-")
	return err
}

var counted = regexp.MustCompile(`counter c_(\w+) \{\s*packets (\d+)`)

// Counted returns the packets that each of a node's counters has seen.
func (l *Lab) Counted(node string) (map[string]int, error) {
	out, err := l.Run(node, "nft", "list", "counters")
	if err != nil {
		return nil, err
	}
	n := map[string]int{}
	for _, m := range counted.FindAllStringSubmatch(out, -1) {
		n[m[1]], _ = strconv.Atoi(m[2])
	}
	return n, nil
}

// WritePcap writes Ethernet frames in the format that ReadPcap reads.
func WritePcap(file string, frames []Frame) error {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
	for _, f := range frames {
		b = le.AppendUint32(le.AppendUint32(b, uint32(f.At.Unix())), uint32(f.At.Nanosecond()/1000))
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(f.Data))), uint32(f.Len))
		b = append(b, f.Data...)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}
