// Package pages reads the project's pages, so that tests can compare what users are to
// do with the code: commands, links, tables.
//
// It parses Markdown with goldmark, because anchors, code spans within tables and
// nested blocks are too much for regular expressions. goldmark is in the product's
// go.mod for that, but the program does not link it.
package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Page is a page as its readers see it on the code's host.
type Page struct {
	Path     string // from the root of the project, with slashes
	Text     string
	Lines    []string // of blocks that hold commands, without comments
	Commands []Command
	Links    []string // as they are, of pictures too
	Anchors  []string // of its headings: what may follow # in a link
}

// Command is one command, without its comment and the file of its output. A line with pipes or "&&" holds
// several.
type Command struct {
	Words []string
	// InText is true if the command is in a sentence, which may name only its
	// beginning.
	InText bool
}

func (c Command) String() string { return strings.Join(c.Words, " ") }

// Root is the project's folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// All returns the pages of the project's folder, of docs, and the chart's.
func All() (all []Page, err error) {
	paths, err := filepath.Glob(filepath.Join(Root(), "*.md"))
	if err != nil {
		return nil, err
	}
	more, err := filepath.Glob(filepath.Join(Root(), "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	for _, path := range append(append(paths, more...), filepath.Join(Root(), "charts/spark-vitals/README.md")) {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(Root(), path)
		if err != nil {
			return nil, err
		}
		page, err := read(filepath.ToSlash(name), content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, page)
	}
	return all, nil
}

func read(path string, content []byte) (Page, error) {
	p := Page{Path: path, Text: string(content)}
	document := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(content))
	return p, ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := node.(type) {
		case *ast.Link:
			p.Links = append(p.Links, string(n.Destination))
		case *ast.Image:
			p.Links = append(p.Links, string(n.Destination))
		case *ast.Heading:
			p.Anchors = append(p.Anchors, anchor(plain(n, content)))
		case *ast.CodeSpan:
			if line := plain(n, content); isCommand(line) {
				p.Commands = append(p.Commands, commands(line, true)...)
			}
		case *ast.FencedCodeBlock:
			if n.Language(content) == nil {
				p.addBlock(n, content)
			}
		case *ast.CodeBlock:
			p.addBlock(n, content)
		}
		return ast.WalkContinue, nil
	})
}

// addBlock adds the commands of a block without a language, which holds one command a
// line.
func (p *Page) addBlock(n ast.Node, content []byte) {
	for i := range n.Lines().Len() {
		segment := n.Lines().At(i)
		if line := strings.TrimSpace(comment.ReplaceAllString(string(segment.Value(content)), "")); line != "" {
			p.Lines = append(p.Lines, line)
			p.Commands = append(p.Commands, commands(line, false)...)
		}
	}
}

var (
	comment   = regexp.MustCompile(`\s+#.*`)
	separator = regexp.MustCompile(`\s+(\||&&)\s+`)
	output    = regexp.MustCompile(`\s+>\s+\S+$`)
	program   = regexp.MustCompile(`^(make|helm|kubectl|(bin/)?spark-vitals|kubectl-spark_vitals|go|cd) `)
)

// isCommand reports whether words in a sentence are a command. "make" alone is not.
func isCommand(line string) bool { return program.MatchString(line) }

func commands(line string, inText bool) (all []Command) {
	for _, part := range separator.Split(line, -1) {
		all = append(all, Command{strings.Fields(output.ReplaceAllString(part, "")), inText})
	}
	return all
}

// plain returns the text of a node.
func plain(node ast.Node, content []byte) string {
	var b strings.Builder
	_ = ast.Walk(node, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(content))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchor returns the anchor that GitHub and GitLab make of a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
