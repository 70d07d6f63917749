// Package model is the management model: what a show command, an SNMP row or a
// metric can display, as immutable values. Engines publish, everyone else reads.
//
// A Snapshot is never changed after Publish. Engines own disjoint parts of it: a
// group's actor its group, the IKE endpoint its SAs, the dataplane its counters.
package model
