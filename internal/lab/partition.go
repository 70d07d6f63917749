package lab

// Partitions of the network: the core forwards between nodes of one side only.

import (
	"fmt"
	"strconv"
	"strings"
)

const partitionTable = "inet partition"

// coreDevs are the core's interfaces towards the nodes (ks, ks2, gm1, …).
func coreDevs(nodes []string) (string, error) {
	var devs []string
	for _, node := range nodes {
		kind, digits := node[:2], node[2:]
		if node == "ks" {
			digits = "1"
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return "", fmt.Errorf("lab: no side can hold %s", node)
		}
		if kind == "ks" {
			devs = append(devs, fmt.Sprintf("k%d", n))
		} else {
			devs = append(devs, Core(n))
		}
	}
	return "{ " + strings.Join(devs, ", ") + " }", nil
}

// Split splits the network: what matches (an nftables match; empty: everything) isn't
// forwarded between sides, which list key servers and members by their nodes. It replaces
// the last split at once. Nodes on no side reach all.
func (l *Lab) Split(match string, sides ...[]string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "add table %[1]s\ndelete table %[1]s\ntable %[1]s { chain c { type filter hook forward priority -10; policy accept;\n", partitionTable)
	for i, from := range sides {
		for j, to := range sides {
			if i == j {
				continue
			}
			a, err := coreDevs(from)
			if err != nil {
				return err
			}
			z, err := coreDevs(to)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "iifname %s oifname %s %s counter drop\n", a, z, match)
		}
	}
	b.WriteString("}\n}\n")
	_, err := l.Input("core", b.String(), "nft", "-f", "-")
	return err
}

// Heal ends a split.
func (l *Lab) Heal() error {
	_, err := l.Input("core", fmt.Sprintf("add table %[1]s\ndelete table %[1]s\n", partitionTable), "nft", "-f", "-")
	return err
}
