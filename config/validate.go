package config

// Validation: references that lead nowhere, and values that can't work together.

import (
	"errors"
	"fmt"
	"slices"

	"getvpn/ipsec"
)

type validator struct {
	c    *Config
	errs []error
}

func (v *validator) bad(object, format string, args ...any) {
	v.errs = append(v.errs, &ValidationError{v.c.Source[object], fmt.Sprintf(format, args...)})
}

// Validate returns everything that keeps the configuration from working, each a
// *ValidationError with the line of the object.
func Validate(c *Config) []error {
	v := &validator{c: c}
	for i := range c.Profiles {
		for _, t := range c.Profiles[i].TransformSets {
			if c.TransformSetByName(t) == nil {
				v.bad("crypto ipsec profile "+c.Profiles[i].Name, "profile %s: there is no transform set %s", c.Profiles[i].Name, t)
			}
		}
	}
	seen := map[string]string{}
	for i := range c.Groups {
		v.group(&c.Groups[i], seen)
	}
	v.maps()
	for i := range c.Interfaces {
		if x := &c.Interfaces[i]; x.CryptoMap != "" && c.CryptoMapByName(x.CryptoMap) == nil {
			v.bad("interface "+x.Name, "interface %s: there is no crypto map %s", x.Name, x.CryptoMap)
		}
	}
	return v.errs
}

// Problem is a ValidationError with the name of its file.
type Problem struct {
	File string
	*ValidationError
}

// Error is "file:line: text".
func (p *Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Problems is what Validate finds as one error with a line "name:line: text" each, nil
// if there is nothing.
func Problems(name string, c *Config) error {
	errs := Validate(c)
	for i, e := range errs {
		var v *ValidationError
		if errors.As(e, &v) && v.Line > 0 {
			errs[i] = &Problem{name, v}
		}
	}
	return errors.Join(errs...)
}

func (v *validator) group(g *Group, seen map[string]string) {
	at := "crypto gdoi group " + g.Name
	switch id := fmt.Sprint(g.HasNumber, g.Number, g.Address); {
	case !g.HasNumber && !g.Address.IsValid():
		v.bad(at, "group %s has no identity: add identity number N or identity address ipv4 A", g.Name)
	case seen[id] != "":
		v.bad(at, "groups %s and %s have the same identity", seen[id], g.Name)
	default:
		seen[id] = g.Name
	}
	if g.Local == nil && len(g.Servers) == 0 {
		v.bad(at, "group %s has no key server: add server address ipv4 A, or server local", g.Name)
	}
	if g.Local != nil && len(g.Servers) > 0 {
		v.bad(at, "group %s: a key server can't be a member of its own group", g.Name)
	}
	for _, t := range g.Client.TransformSets {
		if v.c.TransformSetByName(t) == nil {
			v.bad(at, "group %s: client transform-sets: there is no transform set %s", g.Name, t)
		}
	}
	if l := g.Local; l != nil {
		v.list(at, fmt.Sprintf("group %s: authorization address", g.Name), l.AuthAddress, "")
		v.list(at, fmt.Sprintf("group %s: rekey address", g.Name), l.RekeyAddress, "")
		if len(l.SAs) == 0 {
			v.bad(at, "group %s: the key server has no sa ipsec: nothing would be protected", g.Name)
		}
		for i := range l.SAs {
			v.sa(g, &l.SAs[i])
		}
		v.coop(g)
	}
}

// list checks that an access list exists, has entries and, when kind is given, is of
// that kind.
func (v *validator) list(at, who, name, kind string) *ACL {
	if name == "" {
		return nil
	}
	a := v.c.ACLByName(name)
	switch {
	case a == nil:
		v.bad(at, "%s: there is no access list %s", who, name)
	case kind != "" && (a.Kind == "ipv6") != (kind == "ipv6"):
		v.bad(at, "%s: %s is a list of kind %s", who, name, a.Kind)
	}
	return a
}

func (v *validator) sa(g *Group, s *SAIPsec) {
	at := fmt.Sprintf("crypto gdoi group %s sa ipsec %d", g.Name, s.Seq)
	who := fmt.Sprintf("group %s: sa ipsec %d", g.Name, s.Seq)
	switch p := v.c.ProfileByName(s.Profile); {
	case s.Profile == "":
		v.bad(at, "%s has no profile", who)
	case p == nil:
		v.bad(at, "%s: there is no profile %s", who, s.Profile)
	case len(p.TransformSets) == 0:
		v.bad(at, "%s: profile %s has no transform set", who, s.Profile)
	}
	if s.ACL == "" {
		v.bad(at, "%s has no match address: nothing would be protected", who)
		return
	}
	kind := "ipv4"
	if s.IPv6 {
		kind = "ipv6"
	}
	a := v.list(at, who, s.ACL, kind)
	if a == nil {
		return
	}
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Action == ipsec.Permit && (ranged(e.SrcPort) || ranged(e.DstPort)) {
			v.bad(fmt.Sprintf("access-list %s %d", a.Name, e.Seq), "access list %s, entry %d: a group's permit can't name a range of ports: use eq", a.Name, e.Seq)
		}
	}
}

func ranged(p ipsec.PortMatch) bool { return p.Op != ipsec.PortAny && p.Op != ipsec.PortEq }

func (v *validator) maps() {
	for i := range v.c.CryptoMaps {
		m := &v.c.CryptoMaps[i]
		used := []string{}
		for _, e := range m.Entries {
			at := fmt.Sprintf("crypto map %s %d", m.Name, e.Seq)
			who := fmt.Sprintf("crypto map %s %d", m.Name, e.Seq)
			g := v.c.GroupByName(e.Group)
			switch {
			case e.Group == "":
				v.bad(at, "%s has no group: add set group NAME", who)
			case g == nil:
				v.bad(at, "%s: there is no group %s", who, e.Group)
			case g.Local != nil:
				v.bad(at, "%s: this device is the key server of group %s", who, e.Group)
			case slices.Contains(used, e.Group):
				v.bad(at, "%s: group %s is in the map twice", who, e.Group)
			}
			used = append(used, e.Group)
			v.list(at, who, e.ACL, "")
		}
		if f := m.FailClose; f != nil {
			v.list("crypto map "+m.Name, "crypto map "+m.Name+" gdoi fail-close", f.ACL, "")
		}
	}
}
