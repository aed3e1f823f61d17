package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/e2e/download"
)

// Root returns the folder of the project, found from the folder of the caller.
func Root() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/spark-vitals/spark-vitals").Output()
	if err != nil {
		return "", fmt.Errorf("finding the project: %w", explain(err))
	}
	return strings.TrimSpace(string(out)), nil
}

// File reads a file of the project.
func File(path string) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(root, path))
}

// Build builds the main package in a folder of the project into bin/ and returns its
// path. It shows the progress, because Kubernetes takes minutes.
func Build(ctx context.Context, folder, name string, progress io.Writer) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(root, "bin", name)
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	dir := filepath.Join(root, folder)
	slow := time.AfterFunc(3*time.Second, func() { fmt.Fprintf(progress, "  %s: downloading modules\n", name) })
	total := 0
	err = download.Try(progress, "downloading modules", func() (err error) {
		total, err = countPackages(ctx, dir)
		return err
	})
	slow.Stop()
	if err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-ldflags="+versionFlags(ctx, dir), "-o", binary, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	lines, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	said := show(lines, progress, name, total)
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("building %s: %w", name, explain(fmt.Errorf("%w\n%s", err, said)))
	}
	return binary, nil
}

// versionFlags returns linker flags that give Kubernetes' binaries their version, which
// clients ask for. A folder without Kubernetes has none.
func versionFlags(ctx context.Context, dir string) string {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	cmd.Dir = dir
	version, _ := cmd.Output()
	parts := strings.SplitN(strings.TrimSpace(string(version)), ".", 3)
	if len(parts) != 3 {
		return ""
	}
	const at = "-X k8s.io/component-base/version."
	return fmt.Sprintf("%sgitVersion=%s.%s.%s %sgitMajor=%s %sgitMinor=%s", at, parts[0], parts[1], parts[2], at, parts[0][1:], at, parts[1])
}

func countPackages(ctx context.Context, dir string) (int, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return 0, explain(err)
	}
	return bytes.Count(out, []byte("\n")), nil
}

// show counts the packages that "go build -v" prints, shows a line every few seconds,
// and returns all other output.
func show(from io.Reader, to io.Writer, name string, total int) []byte {
	var said bytes.Buffer
	begun, shown, built := time.Now(), time.Now(), 0
	for lines := bufio.NewScanner(from); lines.Scan(); {
		line := lines.Text()
		if strings.ContainsAny(line, " \t") {
			fmt.Fprintln(&said, line)
			continue
		}
		built++
		if time.Since(shown) > 10*time.Second {
			shown = time.Now()
			fmt.Fprintf(to, "  building %s: %d of at most %d packages, %s\n", name, built, total, time.Since(begun).Round(time.Second))
		}
	}
	return said.Bytes()
}

// remedies are what a user can do about an error, the surest sign first.
var remedies = []struct{ sign, remedy string }{
	{"no space left on device", "the disk is full; some 6 GiB are needed for Go's build cache"},
	{"cannot allocate memory", "there is not enough memory; linking Kubernetes takes 3 GiB"},
	{"address already in use", "a port is taken by another program; try again"},
	{"executable file not found", "a program is not installed, or not in PATH"},
	{"requires go >=", "the installed Go is too old"},
	{"no such host", "a Go module could not be downloaded; is there a network, and does GOPROXY name a module proxy that can be reached?"},
	{"connection refused", "a server cannot be reached; is there a network, and does GOPROXY name a module proxy that can be reached?"},
	{"i/o timeout", "a Go module could not be downloaded in time; is there a network?"},
	{"permission denied", "a file or folder is not writable"},
}

// explain puts a remedy in front of an error.
func explain(err error) error {
	text := err.Error()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		text += "\n" + string(exit.Stderr)
	}
	for _, r := range remedies {
		if strings.Contains(text, r.sign) {
			return fmt.Errorf("%s:\n%s", r.remedy, text)
		}
	}
	return errors.New(text)
}

// Binary is a main package of the project.
type Binary struct{ Folder, Name string }

// APIServerBinaries are the binaries for the tests on an API server, NodeBinaries what
// a whole cluster also runs.
var (
	APIServerBinaries = []Binary{{"cmd/spark-vitals", "spark-vitals"}, {"e2e/kubernetes/controlplane", "controlplane"}, {"e2e/addons/certmanager", "certmanager"}}
	NodeBinaries      = []Binary{{"e2e/kubernetes/node", "node"}, {"e2e/addons/coredns", "coredns"}}
)

// BuildAll builds binaries one after the other.
func BuildAll(ctx context.Context, progress io.Writer, binaries []Binary) error {
	for _, b := range binaries {
		if _, err := Build(ctx, b.Folder, b.Name, progress); err != nil {
			return err
		}
	}
	return nil
}
