package cli

// Running one exec command: grammar, handler, filter, and the IOS form of errors.

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"getvpn/cli/grammar"
)

const execMode = "exec"

// Exec runs commands against a daemon.
type Exec struct {
	Control Control
	Now     func() time.Time // nil: time.Now
}

// call is one command under way.
type call struct {
	view
	control Control
	by      Caller
	asks    bool     // questions can be asked, and this one wasn't answered yet
	session *Session // nil for a single command
	prompt  string
	json    any // what --json prints; nil when the command has none
}

type command = grammar.Command[*call]

// Failed is a command that the daemon refused; Text is what the user sees.
type Failed struct{ Text string }

func (f *Failed) Error() string { return f.Text }

// refuse is a message in the device's manner.
func refuse(format string, args ...any) error {
	return &Failed{"% " + fmt.Sprintf(format, args...) + "\n"}
}

// failed makes a *Failed of any error.
func failed(err error) error {
	var f *Failed
	if errors.As(err, &f) {
		return f
	}
	return refuse("%v", err)
}

// Run executes line. Output is complete lines. With asJSON the snapshot that a show
// command reads is printed instead of its view. The error is a *Failed.
func (x *Exec) Run(line string, asJSON bool) (string, error) {
	return x.run(x.call(Caller{User: "unknown", Source: "console"}), line, asJSON)
}

func (x *Exec) call(by Caller) *call {
	now := time.Now
	if x.Now != nil {
		now = x.Now
	}
	c := &call{control: x.Control, by: by}
	c.s, c.c, c.now = x.Control.Snapshot(), x.Control.RunningConfig(), now()
	c.prompt = c.s.Hostname + "#"
	return c
}

func (x *Exec) run(c *call, line string, asJSON bool) (string, error) {
	body, filter, err := splitFilter(line)
	if err != nil {
		return "", failed(err)
	}
	if t := strings.TrimSpace(body); t == "" || t[0] == '!' {
		return "", nil
	}
	g, err := execGrammar()
	if err != nil {
		return "", failed(err)
	}
	cmd, m, err := g.Match(execMode, body)
	if err != nil {
		return "", &Failed{c.explain(err)}
	}
	if err := cmd.Do(c, m); err != nil {
		var q *Confirm
		if errors.As(err, &q) {
			return "", q
		}
		return "", failed(err)
	}
	if asJSON {
		if c.json == nil {
			return "", refuse("This command has no JSON form.")
		}
		out, err := json.MarshalIndent(c.json, "", " ")
		if err != nil {
			return "", failed(err)
		}
		return string(out) + "\n", nil
	}
	return filter(c.text()), nil
}

// Help answers "?" behind line: what may follow, two columns.
func (x *Exec) Help(line string) string {
	g, err := execGrammar()
	if err != nil {
		return "% " + err.Error() + "\n"
	}
	return helpText(g.Help(execMode, line), line)
}

// helpText is the answer to "?" behind line.
func helpText(choices []grammar.Choice, line string) string {
	if len(choices) == 0 {
		return "% Unrecognized command\n"
	}
	if line != "" && !strings.HasSuffix(line, " ") {
		var words []string
		for _, c := range choices {
			words = append(words, c.Word)
		}
		return strings.Join(words, "  ") + "\n"
	}
	wide := 0
	for _, c := range choices {
		wide = max(wide, len(c.Word))
	}
	var b strings.Builder
	for _, c := range choices {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-*s  %s", wide, c.Word, c.Help), " ") + "\n")
	}
	return b.String()
}

// explain is the device's message; the caret's column counts the prompt.
func (c *call) explain(err error) string {
	var e *grammar.Error
	if !errors.As(err, &e) {
		return "% " + err.Error() + "\n"
	}
	if e.Kind == grammar.Invalid {
		head := strings.Repeat(" ", len(c.prompt)+len([]rune(e.Line[:e.Col])))
		return head + "^\n" + e.Error() + "\n\n"
	}
	if e.Kind == grammar.Incomplete && strings.TrimSpace(e.Line) == "show" {
		return "% Type \"show ?\" for a list of subcommands\n"
	}
	return e.Error() + "\n\n"
}

var execGrammar = sync.OnceValues(func() (*grammar.Grammar[*call], error) {
	return grammar.New([]grammar.Mode{{Name: execMode}}, nil, execWords, append(execCommands(), actionCommands()...))
})

var execWords = map[string]string{
	"show": "Show running system information", "clear": "Reset functions", "crypto": "Encryption module",
	"gdoi": "Group members and key servers", "gkm": "Group members and key servers", "group": "Of one group",
	"gm": "Group member", "ks": "Key server", "ipsec": "IPsec", "isakmp": "IKE", "sa": "Security associations",
	"configure": "Change the configuration", "write": "Save the configuration", "copy": "Copy the configuration",
	"members": "Registered members", "replay": "Anti-replay", "rekey": "Rekeys", "identifier": "Sender IDs", "dataplane": "Packets",
	"coop": "Cooperative key servers", "version": "Version",
	"map": "Crypto maps", "drops": "Every counter of refused packets and messages",
}

func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return strings.Trim(b.Main.Version, "()")
	}
	return "devel"
}
