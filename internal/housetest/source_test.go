package housetest

// Reading the tree: every Go file parsed once, every text file listed.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "getvpn"

// source is one Go file.
type source struct {
	path string // from the root of the tree
	pkg  string // import path without the module
	test bool
	ast  *ast.File
	text string
}

func (s source) imports() []string {
	var out []string
	for _, i := range s.ast.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		out = append(out, p)
	}
	return out
}

// ours returns what it imports of this module, without the module's name.
func (s source) ours() []string {
	var out []string
	for _, p := range s.imports() {
		if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			out = append(out, rest)
		}
	}
	return out
}

func (s source) lines() int { return strings.Count(s.text, "\n") }

// root finds the tree's top: the folder with go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

var fset = token.NewFileSet()

var parsed = sync.OnceValues(func() ([]source, []error) {
	var (
		out  []source
		errs []error
	)
	wd, _ := os.Getwd()
	top := filepath.Join(wd, "..", "..")
	walk(top, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			errs = append(errs, err)
			return
		}
		f, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			errs = append(errs, err)
			return
		}
		out = append(out, source{path: path, pkg: filepath.ToSlash(filepath.Dir(path)),
			test: strings.HasSuffix(path, "_test.go"), ast: f, text: string(text)})
	})
	return out, errs
})

func sources(t *testing.T) []source {
	t.Helper()
	s, errs := parsed()
	for _, err := range errs {
		t.Error(err)
	}
	if len(s) < 10 {
		t.Fatalf("only %d Go files found: wrong folder?", len(s))
	}
	return s
}

// walk visits the files below top, paths relative to it, without .git and bin.
func walk(top string, visit func(path string)) {
	filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		rel, _ := filepath.Rel(top, path)
		if d.IsDir() {
			if rel == ".git" || rel == "bin" || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		visit(filepath.ToSlash(rel))
		return nil
	})
}
