package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/pages"
	"github.com/spark-vitals/spark-vitals/policy"
)

// The pages name only targets of make, values and objects of the chart, annotations,
// and files that exist. e2e/pages runs the commands, but it needs a cluster; this test
// finds a page that is out of date in seconds, and covers commands within sentences.
func TestCommands(t *testing.T) {
	known := names(t)
	for _, page := range allPages(t) {
		for _, c := range page.Commands {
			if problem := known.problem(c); problem != "" {
				t.Errorf("%s: %s: %s", page.Path, c, problem)
			}
		}
	}
}

// Policies in the text are valid.
func TestPolicies(t *testing.T) {
	found := 0
	for _, page := range allPages(t) {
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page.Text, -1) {
			if !strings.HasPrefix(m[1], "rules:") {
				continue
			}
			found++
			if _, err := policy.Parse([]byte(m[1])); err != nil {
				t.Errorf("%s: %v", page.Path, err)
			}
		}
	}
	if found == 0 {
		t.Error("no policy is found")
	}
}

// known names that a command may use.
type known struct {
	targets, variables, stories []string
	values                      map[string]any
	objects                     string // of the chart
	sources                     string // of the program and its tests on a cluster
}

func names(t *testing.T) (k known) {
	t.Helper()
	makefile := read(t, "../Makefile")
	k.targets = all(makefile, `(?m)^([a-z0-9-]+):`)
	k.variables = all(makefile, `\$\((?:or |if |filter existing,\$\()*([A-Z]+)\b`)
	if err := yaml.Unmarshal([]byte(read(t, "../charts/spark-vitals/values.yaml")), &k.values); err != nil {
		t.Fatal(err)
	}
	for _, values := range []string{"default", "everything"} {
		k.objects += read(t, "../e2e/chart/testdata/render/"+values+".txtar")
	}
	stories, err := filepath.Glob("../e2e/stories/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stories {
		k.stories = append(k.stories, all(read(t, file), `name: "([a-z0-9-]+)"`)...)
	}
	for _, file := range sources(t) {
		k.sources += read(t, file)
	}
	return k
}

func all(text, pattern string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// problem returns what is wrong with a command, or "".
func (k known) problem(c pages.Command) string {
	switch args := c.Words[1:]; c.Words[0] {
	case "make":
		return k.make(args)
	case "helm":
		return k.helm(args)
	case "kubectl":
		return k.kubectl(args)
	case "spark-vitals", "bin/spark-vitals", "grep", "kubectl-spark_vitals": // cmd/spark-vitals has a test for ours
		return ""
	case "cd", "go":
		for _, word := range args {
			if (c.Words[0] == "cd" || strings.Contains(word, "/")) && !exists(word) && !exists("e2e/"+word) {
				return "there is no " + word
			}
		}
		return ""
	}
	return "a program that no test knows; give the block a language if it is no command"
}

func exists(file string) bool {
	_, err := os.Stat(filepath.Join(pages.Root(), file))
	return err == nil
}

func (k known) make(args []string) string {
	for _, word := range args {
		name, value, isVariable := strings.Cut(word, "=")
		switch {
		case !isVariable && !slices.Contains(k.targets, word):
			return "no target " + word
		case isVariable && !slices.Contains(k.variables, name):
			return "no variable " + name
		case name == "STORY" && isVariable && !slices.Contains(k.stories, value):
			return "no story " + value
		}
	}
	return ""
}

// helm checks that the chart has the values that a command sets.
func (k known) helm(args []string) string {
	for i, word := range args {
		if i == 0 || args[i-1] != "--set" && args[i-1] != "--set-file" {
			if strings.HasPrefix(word, "charts/") && !exists(word) {
				return "there is no " + word
			}
			continue
		}
		path, _, _ := strings.Cut(word, "=")
		var at any = k.values
		for _, key := range strings.Split(path, ".") {
			m, _ := at.(map[string]any)
			next, found := m[key]
			if !found {
				return "the chart has no value " + path
			}
			at = next
		}
	}
	return ""
}

var (
	ourKeys = regexp.MustCompile(`spark-vitals\\?\.io/([a-zA-Z-]+)`)
	reason  = regexp.MustCompile(`\breason=(\w+)`)
	object  = regexp.MustCompile(`^(?:deployment/)?(spark-vitals(-[a-z]+)*)$`)
)

// kubectl checks that our annotations, reasons of Events and objects exist.
func (k known) kubectl(args []string) string {
	line := strings.Join(args, " ")
	for _, m := range ourKeys.FindAllStringSubmatch(line, -1) {
		key := annotations.Prefix + strings.TrimSuffix(m[1], "-")
		if key != annotations.Inject && key != annotations.DeathCondition && !annotations.IsStamp(key) && !annotations.IsRecord(key) {
			return "no key " + key
		}
	}
	for _, m := range reason.FindAllStringSubmatch(line, -1) {
		if !strings.Contains(k.sources, `"`+m[1]+`"`) {
			return "no Event has the reason " + m[1]
		}
	}
	for i, word := range args {
		m := object.FindStringSubmatch(word)
		if m != nil && i > 0 && slices.Contains(args[:i], "create") {
			continue // the user's own
		}
		if m != nil && !strings.Contains(k.objects, "name: "+m[1]+"\n") {
			return "the chart makes no " + m[1]
		}
	}
	return ""
}
