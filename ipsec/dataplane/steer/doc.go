// Package steer puts a group's policy into the kernel. It compiles an ipsec.Ruleset
// into BPF instructions, attaches the programs to a protected interface (tcx, or
// clsact with cls_bpf on kernels before 6.6) and to its TAP, and keeps the maps that
// they read: socket cookies, SPIs, local addresses. docs/steering.md tells what each
// program passes and why.
//
// Order of reading: steer.go and attach.go (what callers use), rules.go (policy to
// instructions), parse.go (headers to fields), egress.go, ingress.go, ring.go (the
// programs), backend.go (where they hang), lock.go (the second lock).
package steer
