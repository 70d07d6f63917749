package cli

// Output filters: "| include RE" and its kin.

import (
	"fmt"
	"regexp"
	"strings"
)

var filterWords = []string{"include", "exclude", "begin", "section", "count"}

// splitFilter cuts "command | filter" and compiles the filter.
func splitFilter(line string) (string, func(string) string, error) {
	body, f, ok := strings.Cut(line, "|")
	if !ok {
		return line, func(s string) string { return s }, nil
	}
	word, expr, _ := strings.Cut(strings.TrimSpace(f), " ")
	expr = strings.TrimSpace(expr)
	kind := ""
	for _, w := range filterWords {
		if word != "" && strings.HasPrefix(w, strings.ToLower(word)) {
			kind = w
		}
	}
	switch {
	case kind == "":
		return "", nil, refuse("Invalid filter %q: may be %s.", word, strings.Join(filterWords, ", "))
	case expr == "":
		return "", nil, refuse("Incomplete command.")
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return "", nil, refuse("Bad regular expression %q.", expr)
	}
	return body, func(s string) string { return apply(kind, re, s) }, nil
}

func apply(kind string, re *regexp.Regexp, text string) string {
	var out []string
	on, depth, n := false, 0, 0
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		hit := re.MatchString(l)
		if hit {
			n++
		}
		switch kind {
		case "include":
			on = hit
		case "exclude":
			on = !hit
		case "begin":
			on = on || hit
		case "section":
			in := len(l) - len(strings.TrimLeft(l, " "))
			if on && in <= depth || l == "" {
				on = false
			}
			if !on && hit {
				on, depth = true, in
			}
		}
		if on {
			out = append(out, l)
		}
	}
	if kind == "count" {
		return fmt.Sprintf("Number of lines which match regexp = %d\n", n)
	}
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}
