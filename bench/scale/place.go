package main

// Where it all takes place: a network namespace without a name, which goes when the
// last process in it does, and in it addresses on the loopback interface. A process
// that ends takes its children along.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// keyServer is the key server's address, lateServers those of others that join it;
// crowdNet holds the members'.
var (
	keyServer   = netip.MustParseAddr("10.8.0.1")
	lateServers = [2]netip.Addr{netip.MustParseAddr("10.8.0.2"), netip.MustParseAddr("10.8.0.3")}
	serverNet   = netip.MustParsePrefix("10.8.0.0/24")
	crowdNet    = netip.MustParsePrefix("10.16.0.0/12")
)

// most is how many members there can be: the key server's own limit.
const most = 65000

// memberAddr is the address of member i, from 0.
func memberAddr(i int) netip.Addr {
	a := crowdNet.Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(i)+1)
	return netip.AddrFrom4(a)
}

// memberIndex is the member that has the address, -1 for none of n.
func memberIndex(a netip.Addr, n int) int {
	if !a.Is4() || !crowdNet.Contains(a) {
		return -1
	}
	x, base := a.As4(), crowdNet.Addr().As4()
	i := int(binary.BigEndian.Uint32(x[:])) - int(binary.BigEndian.Uint32(base[:])) - 1
	if i < 0 || i >= n {
		return -1
	}
	return i
}

// roleVar tells a process of this program what it is.
const roleVar = "GETVPN_SCALE_ROLE"

// self is this program again, in a role.
func self(role string, args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), roleVar+"="+role)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// furnish makes the addresses, in the namespace that this process is in.
func furnish() error {
	c := exec.Command("ip", "-batch", "-")
	c.Stdin = strings.NewReader(fmt.Sprintf("link set lo up\naddr add %s/32 dev lo\naddr add %s/32 dev lo\naddr add %s/32 dev lo\nroute add local %s dev lo\n", keyServer, lateServers[0], lateServers[1], crowdNet))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("addresses: %w: %s", err, out)
	}
	return nil
}
