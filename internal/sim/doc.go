// Package sim is a dataplane in software, and the network between such dataplanes, for
// tests of whole daemons under a fake clock. It seals, opens and judges with the
// product's own code (ipsec); only interfaces, rings and BPF programs are missing.
//
//	Core     the network between sites, with a recorder that sees every packet
//	Site     a member's hosts and what its kernel does with or without a daemon
//	Plane    the dataplane that a daemon opens at a site
//	Traffic  flows between sites that are counted packet by packet
//
// Every packet is accounted for: received, or dropped by a named reason, or lost.
package sim
