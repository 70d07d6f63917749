package config

// The grammar of the file: modes, parameter types, and the tables of all commands.

import (
	"sync"

	"getvpn/cli/grammar"
)

const (
	modeGlobal    = "global"
	modeISAKMP    = "isakmp"
	modeTransform = "transform"
	modeProfile   = "profile"
	modeGroup     = "group"
	modeLocal     = "local"
	modeSA        = "sa"
	modeCoop      = "coop"
	modeMap       = "map"
	modeFailClose = "fail-close"
	modeInterface = "interface"
	modeCTS       = "cts"
	modeStdACL    = "std-acl"
	modeExtACL    = "ext-acl"
	modeV6ACL     = "v6-acl"
	modeIdent     = "identifier"
	modeKept      = "kept" // no commands: what is below is kept with its head
)

var modes = []grammar.Mode{
	{Name: modeGlobal, Prompt: "config"},
	{Name: modeISAKMP, Parent: modeGlobal, Prompt: "config-isakmp"},
	{Name: modeTransform, Parent: modeGlobal, Prompt: "cfg-crypto-trans"},
	{Name: modeProfile, Parent: modeGlobal, Prompt: "ipsec-profile"},
	{Name: modeGroup, Parent: modeGlobal, Prompt: "config-gkm-group"},
	{Name: modeLocal, Parent: modeGroup, Prompt: "gkm-local-server"},
	{Name: modeSA, Parent: modeLocal, Prompt: "gkm-sa-ipsec"},
	{Name: modeCoop, Parent: modeLocal, Prompt: "gdoi-coop-ks-config"},
	{Name: modeIdent, Parent: modeLocal, Prompt: "gdoi-identifier"},
	{Name: modeMap, Parent: modeGlobal, Prompt: "config-crypto-map"},
	{Name: modeFailClose, Parent: modeGlobal, Prompt: "crypto-map-fail-close"},
	{Name: modeInterface, Parent: modeGlobal, Prompt: "config-if"},
	{Name: modeCTS, Parent: modeInterface, Prompt: "config-if-cts-manual"},
	{Name: modeStdACL, Parent: modeGlobal, Prompt: "config-std-nacl"},
	{Name: modeExtACL, Parent: modeGlobal, Prompt: "config-ext-nacl"},
	{Name: modeV6ACL, Parent: modeGlobal, Prompt: "config-ipv6-acl"},
	{Name: modeKept, Parent: modeGlobal, Prompt: "config"},
}

var types = []grammar.Type{
	{Name: "PORT", Help: "port number or name", Check: func(w string) bool {
		_, ok := numberOf(w, 65535, tcpPorts, udpPorts, extraPorts)
		return ok
	}},
	{Name: "ICMP4", Help: "ICMP type, number or name", Check: func(w string) bool {
		_, ok := numberOf(w, 255, icmp4Types)
		return ok
	}},
	{Name: "ICMP6", Help: "ICMPv6 type, number or name", Check: func(w string) bool {
		_, ok := numberOf(w, 255, icmp6Types)
		return ok
	}},
}

type command = grammar.Command[*builder]

// fileGrammar compiles the declarations once.
var fileGrammar = sync.OnceValues(func() (*grammar.Grammar[*builder], error) {
	var all []command
	for _, t := range [][]command{globalCommands(), isakmpCommands(), ipsecCommands(), groupCommands(), localCommands(), coopCommands(),
		mapCommands(), interfaceCommands(), aclCommands(), stateCommands(), tagCommands(), keptCommands()} {
		all = append(all, t...)
	}
	return grammar.New(modes, types, words, all)
})

// words explains keywords for help.
var words = map[string]string{
	"crypto": "Encryption", "isakmp": "IKE", "ipsec": "IPsec", "gdoi": "Group domain of interpretation",
	"gkm": "Group key management", "group": "A group", "map": "A crypto map", "key": "Pre-shared key",
	"policy": "A policy", "interface": "An interface", "access-list": "An access list", "ip": "IPv4", "ipv6": "IPv6",
	"permit": "Protect what matches", "deny": "Leave in clear what matches", "any": "Every address", "host": "One address",
	"rekey": "Rekey messages", "server": "Key server", "identity": "Identity", "match": "What is protected",
	"algorithm": "Cipher of the KEK", "acknowledgement": "Form of acknowledgements", "authentication": "Who or what is proved",
	"authorization": "Who may register", "lifetime": "A lifetime", "transport": "How rekeys travel", "sig-hash": "Hash of rekey signatures",
	"sa": "Data SAs", "client": "This member", "set": "Values of the object", "mypubkey": "A key of this device", "status": "What others are told",
	"fail-close": "What passes without keys", "recovery-check": "Watch over errors", "registration": "Registration", "replay": "Anti-replay",
	"counter": "By sequence numbers", "time": "By pseudotime", "tag": "Tags in packets", "identifier": "Sender IDs", "retransmit": "Retransmission",
	"address": "An address", "logging": "Syslog", "eq": "Equal", "neq": "Not equal", "lt": "Less", "gt": "Greater", "range": "A range",
	"local": "This key server", "peer": "Other key servers", "protocol": "How key servers speak with each other", "timeout": "Times, in seconds", "refresh": "Of a primary", "periodic": "Of a secondary",
}
