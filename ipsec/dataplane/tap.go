package dataplane

// The TAP of a protected interface: persistent, so that permits have somewhere to die
// when no process is there. What the kernel sends out of it is taken from a ring
// (openTransmitRing), which spares a system call a packet; its own queue takes nothing.
// What is written to it, with a virtio header, is received on it.

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tunPath = "/dev/net/tun"
	// The largest MTU: what goes in and out of a TAP is the other interface's business.
	tapMTU    = 65521
	tapPrefix = "gv-"
	// Offloads that the segmenter undoes (uapi/linux/if_tun.h).
	tunCsum, tunTSO4, tunTSO6, tunTSOECN, tunUSO4, tunUSO6 = 1, 2, 4, 8, 0x20, 0x40
)

// tap has one descriptor a queue.
type tap struct {
	name  string
	index int
	fds   []int
}

// tapName is the TAP of the interface with that configured name: the same in every
// process and for every incarnation of the interface.
func tapName(iface string) string {
	if n := tapPrefix + iface; deviceName(n) {
		return n
	}
	h := fnv.New64a()
	h.Write([]byte(iface))
	return fmt.Sprintf(tapPrefix+"%011x", h.Sum64()&(1<<44-1))
}

// openTap attaches to a TAP, making it if it isn't there.
func openTap(name string, queues int) (*tap, error) {
	t := &tap{name: name}
	for range queues {
		fd, err := openTapQueue(name)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("dataplane: TAP %s: %w", name, err)
		}
		t.fds = append(t.fds, fd)
	}
	if err := t.configure(); err != nil {
		t.close()
		return nil, fmt.Errorf("dataplane: TAP %s: %w", name, err)
	}
	return t, nil
}

func openTapQueue(name string) (int, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	fail := func(what string, err error) (int, error) {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", what, err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fail("name", err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fail("TUNSETIFF", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fail("TUNSETPERSIST", err)
	}
	// Kernels before 6.2 don't know UDP segmentation: they cut it themselves then.
	all := tunCsum | tunTSO4 | tunTSO6 | tunTSOECN | tunUSO4 | tunUSO6
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, all); err != nil {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, all&^(tunUSO4|tunUSO6)); err != nil {
			return fail("TUNSETOFFLOAD", err)
		}
	}
	hdr := int32(vnetLen)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETVNETHDRSZ, uintptr(unsafe.Pointer(&hdr))); e != 0 {
		return fail("TUNSETVNETHDRSZ", e)
	}
	// Nobody reads this descriptor: frames are taken from a ring (openTransmitRing), and
	// the TAP throws its own copy away. Its "TX dropped" is therefore all that went out.
	none := unix.SockFilter{Code: 6} // ret 0
	prog := unix.SockFprog{Len: 1, Filter: &none}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNATTACHFILTER, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fail("TUNATTACHFILTER", e)
	}
	return fd, nil
}

// configure brings the TAP up: no queueing discipline (the ring is the queue), no
// addresses, no IPv6.
func (t *tap) configure() error {
	l, err := netlink.LinkByName(t.name)
	if err != nil {
		return err
	}
	t.index = l.Attrs().Index
	// The host mustn't speak IPv6 there: what it sends would look like traffic. Where
	// sysctls can't be written, those few packets are counted as policy-race.
	os.WriteFile("/proc/sys/net/ipv6/conf/"+t.name+"/disable_ipv6", []byte("1"), 0)
	if err := netlink.LinkSetMTU(l, tapMTU); err != nil {
		return fmt.Errorf("MTU: %w", err)
	}
	if err := netlink.LinkSetIP6AddrGenMode(l, 1); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("IPv6 address generation: %w", err)
	}
	if err := netlink.LinkSetARPOff(l); err != nil {
		return fmt.Errorf("ARP: %w", err)
	}
	q := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: t.index, Parent: netlink.HANDLE_ROOT}}
	if err := netlink.QdiscReplace(q); err != nil {
		return fmt.Errorf("noqueue: %w", err)
	}
	return netlink.LinkSetUp(l)
}

// close leaves the TAP there.
func (t *tap) close() {
	for _, fd := range t.fds {
		unix.Close(fd)
	}
	t.fds = nil
}

// removeTap deletes the TAP of that name, if there is one.
func removeTap(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}
