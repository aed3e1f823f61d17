package prose

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	markdown "github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	table "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
)

// Markdown reads the paragraphs and cells of a page. Headings stay as they are,
// because links lead to them.
func Markdown(path string) (texts []Text, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	page := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(content))
	err = markdown.Walk(page, func(node markdown.Node, entering bool) (markdown.WalkStatus, error) {
		switch node.Kind() {
		case markdown.KindBlockquote: // what the program says, which is checked where it is written
			return markdown.WalkSkipChildren, nil
		case markdown.KindParagraph, markdown.KindTextBlock, table.KindTableCell:
		default:
			return markdown.WalkContinue, nil
		}
		if words, begin := plain(node, content); entering && strings.TrimSpace(words) != "" {
			texts = append(texts, Text{path, 1 + bytes.Count(content[:begin], []byte("\n")), words})
		}
		return markdown.WalkContinue, nil
	})
	return texts, err
}

// plain returns the text of a block, and the line on which it begins.
func plain(block markdown.Node, content []byte) (words string, begin int) {
	var b strings.Builder
	begin = -1
	_ = markdown.Walk(block, func(node markdown.Node, entering bool) (markdown.WalkStatus, error) {
		if !entering {
			return markdown.WalkContinue, nil
		}
		switch n := node.(type) {
		case *markdown.CodeSpan:
			b.WriteString(Code)
			return markdown.WalkSkipChildren, nil
		case *markdown.AutoLink:
			b.WriteString(Code)
		case *markdown.Text:
			if begin < 0 {
				begin = n.Segment.Start
			}
			b.Write(n.Segment.Value(content))
			if n.SoftLineBreak() || n.HardLineBreak() {
				b.WriteByte(' ')
			}
		}
		return markdown.WalkContinue, nil
	})
	return inCode.ReplaceAllString(b.String(), Code), max(begin, 0)
}

var (
	comment  = regexp.MustCompile(`^\s*#(?: --)? ?(.*)$`)
	sentence = regexp.MustCompile(`^\s*(?:- )?(?:message|description|summary|why|startup|readiness|liveness): '?"?([A-Za-z][^{&*>|].* .*)$`)
	inCode   = regexp.MustCompile("`[^`]*`|\\{\\{.*?\\}\\}|\\S+[=/_{}\\[\\]]\\S*[^\\s.,:;)]|\\S+[=/_{}\\[\\]]|\\b[a-z]+[A-Z]\\w*(\\.\\w+)*|\\b\\w+\\.[a-z]\\w*(\\.\\w+)*|--[a-z-]+")
)

// YAML reads comments, a paragraph each, and the values of keys for prose. In a text
// in a YAML file, such as the chart's policy, it also reads comments.
func YAML(path string) ([]Text, error) {
	return lines(path, func(line string) (words string, prose, joins bool) {
		if m := comment.FindStringSubmatch(line); m != nil {
			return m[1], true, !strings.Contains(line, "# --") && m[1] != ""
		}
		if m := sentence.FindStringSubmatch(line); m != nil {
			return m[1], true, false
		}
		return "", false, false
	})
}

// Notes reads what Helm prints: all that is neither a command nor a template.
func Notes(path string) ([]Text, error) {
	return lines(path, func(line string) (words string, prose, joins bool) {
		return line, !strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "{{") && line != "", true
	})
}

// Messages reads a golden file of messages. Each is an indented line.
func Messages(path string) ([]Text, error) {
	return lines(path, func(line string) (words string, prose, joins bool) {
		return strings.TrimSpace(line), strings.HasPrefix(line, "  "), false
	})
}

func lines(path string, read func(line string) (words string, prose, joins bool)) (texts []Text, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	within := false
	for i, line := range strings.Split(string(content), "\n") {
		words, prose, joins := read(line)
		words = inCode.ReplaceAllString(words, Code)
		switch {
		case prose && joins && within:
			texts[len(texts)-1].Text += " " + words
		case prose:
			texts = append(texts, Text{path, i + 1, words})
		}
		within = prose
	}
	return texts, nil
}

var words = regexp.MustCompile(`[A-Za-z]+[,;:]? [a-z]+[,;:]? [a-z]+`)

// Go reads the strings of a file with at least three words: warnings, errors, help of
// metrics and flags, lines of the log. A sum of strings is one text.
func Go(path string) (texts []Text, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(node ast.Node) bool {
		expression, ok := node.(ast.Expr)
		if !ok {
			return true
		}
		text, isText := sum(expression)
		if isText && words.MatchString(text) {
			texts = append(texts, Text{path, files.Position(node.Pos()).Line, inCode.ReplaceAllString(text, Code)})
		}
		return !isText
	})
	return texts, nil
}

// sum returns a sum of strings, with Code for each computed part.
func sum(expression ast.Expr) (text string, isText bool) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, isLeft := sum(e.X)
		right, isRight := sum(e.Y)
		return left + right, e.Op == token.ADD && (isLeft || isRight)
	}
	return Code, false
}
