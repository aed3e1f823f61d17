package image

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spark-vitals/spark-vitals/e2e/download"
)

//go:embed entrypoint.sh nobash.sh decom.sh Deny.java Block.java Hang.java Hold.java SparkSQLEngine.java
var sources embed.FS

// Variant of a Spark image.
type Variant string

// The variants: as most images are, without bash, with an ENV of the image's own
// that a variable in the pod would replace, and with a stand-in for the main
// class of Kyuubi's engine.
const (
	Plain       Variant = ""
	NoBash      Variant = "-nobash"
	JavaOptions Variant = "-javaoptions"
	Engine      Variant = "-engine"
)

// Name returns the name of the image of a Spark version.
func Name(version string, variant Variant) string {
	return "localhost/e2e/spark:" + version + string(variant)
}

// Store is a folder that keeps what was downloaded and built.
type Store struct {
	Dir      string
	Apps     string    // a folder of Python programs that images have under /opt/apps
	Progress io.Writer // shows long steps
}

// Spark returns the image of a Spark version. At first its layers are built from Debian
// packages and pyspark, which are downloaded; later it takes seconds.
func (s Store) Spark(ctx context.Context, version string, variant Variant) (Image, error) {
	base, err := s.base(ctx)
	if err != nil {
		return Image{}, err
	}
	home, err := s.PySpark(ctx, version)
	if err != nil {
		return Image{}, err
	}
	spark := filepath.Join(s.Dir, "pyspark-"+version+".tar")
	if !exists(spark) {
		fmt.Fprintf(s.Progress, "  packing pyspark %s\n", version)
		if err := WriteFolder(spark, filepath.Dir(home), "opt/py"); err != nil {
			return Image{}, err
		}
	}
	classes := []string{"Deny", "Block", "Hang", "Hold"}
	if variant == Engine {
		classes = append(classes, "SparkSQLEngine")
	}
	compiled, err := s.compile(ctx, home, classes)
	if err != nil {
		return Image{}, err
	}
	top := filepath.Join(s.Dir, "top-"+version+string(variant)+".tar")
	if err := s.writeTop(top, variant, compiled); err != nil {
		return Image{}, err
	}
	return Image{Name: Name(version, variant), Config: config(variant), Layers: []string{base, spark, top}}, nil
}

// Static returns an image of one static Go program, a main package of the project.
func (s Store) Static(name, binary string, args ...string) (Image, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return Image{}, err
	}
	layer := filepath.Join(s.Dir, filepath.Base(binary)+".tar")
	if err := WriteFiles(layer, []File{{Path: filepath.Base(binary), Mode: 0o755, Data: program}}); err != nil {
		return Image{}, err
	}
	entrypoint := append([]string{"/" + filepath.Base(binary)}, args...)
	return Image{Name: name, Config: v1.Config{Entrypoint: entrypoint, User: "65532:65532"}, Layers: []string{layer}}, nil
}

// PySpark installs a version of pyspark, which includes Spark's jars for Kubernetes,
// and returns its home (SPARK_HOME).
func (s Store) PySpark(ctx context.Context, version string) (home string, err error) {
	target := filepath.Join(s.Dir, "pyspark-"+version)
	if !exists(target) {
		fmt.Fprintf(s.Progress, "  downloading pyspark %s from PyPI, 300 to 450 MB\n", version)
		if err := s.download(ctx, target+".part", "python3", "-m", "pip", "install", "--quiet", "--no-deps", "--target", target+".part", "pyspark=="+version); err != nil {
			return "", err
		}
		if err := os.Rename(target+".part", target); err != nil {
			return "", err
		}
	}
	return filepath.Join(target, "pyspark"), nil
}

var packages = "tini,python3,openjdk-17-jre-headless,procps"

// base returns a layer of Debian with Java and Python.
func (s Store) base(ctx context.Context) (layer string, err error) {
	layer = filepath.Join(s.Dir, "debian.tar")
	if exists(layer) {
		return layer, nil
	}
	fmt.Fprintln(s.Progress, "  downloading a Debian with Java and Python, two minutes")
	root := filepath.Join(s.Dir, "debian")
	defer os.RemoveAll(root)
	if err := s.download(ctx, root, "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", root); err != nil {
		return "", err
	}
	if err := command(ctx, "tar", "-C", root, "--exclude=./var/cache/*", "--exclude=./var/lib/apt/*", "-cf", layer+".part", "."); err != nil {
		return "", err
	}
	return layer, os.Rename(layer+".part", layer)
}

// compile compiles Java programs for a Spark, whose servlets are javax up to 3.5 and
// jakarta since 4.0. The image has their classes below /opt/classes.
func (s Store) compile(ctx context.Context, home string, classes []string) ([]File, error) {
	work, err := os.MkdirTemp("", "classes-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	api := "jakarta.servlet"
	if strings.Contains(filepath.Dir(home), "pyspark-3.") {
		api = "javax.servlet"
	}
	args := []string{"--release", "11", "-nowarn", "-d", filepath.Join(work, "opt", "classes"), "-cp", filepath.Join(home, "jars", "*")}
	for _, class := range classes {
		source, err := sources.ReadFile(class + ".java")
		if err != nil {
			return nil, err
		}
		file := filepath.Join(work, class+".java")
		if err := os.WriteFile(file, bytes.ReplaceAll(source, []byte("SERVLET"), []byte(api)), 0o600); err != nil {
			return nil, err
		}
		args = append(args, file)
	}
	if err := command(ctx, "javac", args...); err != nil {
		return nil, err
	}
	var files []File
	err = fs.WalkDir(os.DirFS(work), "opt", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		compiled, err := os.ReadFile(filepath.Join(work, name))
		files = append(files, File{Path: name, Mode: 0o644, Data: compiled})
		return err
	})
	return files, err
}

func (s Store) writeTop(layer string, variant Variant, more []File) error {
	files := slices.Concat(more, []File{
		{Path: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nspark:x:185:0:spark:/opt/work:/bin/sh\n")},
		{Path: "opt/work/", Mode: 0o777},
	})
	script := map[Variant]string{NoBash: "nobash.sh"}[variant]
	if script == "" {
		script = "entrypoint.sh"
	}
	for file, as := range map[string]string{script: "opt/entrypoint.sh", "decom.sh": "opt/decom.sh"} {
		data, err := sources.ReadFile(file)
		if err != nil {
			return err
		}
		files = append(files, File{Path: as, Mode: 0o755, Data: data})
	}
	if variant == NoBash {
		for _, path := range []string{"usr/bin/.wh.bash", "usr/bin/.wh.rbash"} {
			files = append(files, File{Path: path})
		}
	}
	apps, err := os.ReadDir(s.Apps)
	if err != nil {
		return err
	}
	for _, app := range apps {
		data, err := os.ReadFile(filepath.Join(s.Apps, app.Name()))
		if err != nil {
			return err
		}
		files = append(files, File{Path: "opt/apps/" + app.Name(), Mode: 0o644, Data: data})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return WriteFiles(layer, files)
}

func config(variant Variant) v1.Config {
	c := v1.Config{
		Entrypoint: []string{"/opt/entrypoint.sh"},
		WorkingDir: "/opt/work",
		User:       "185",
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"SPARK_HOME=/opt/py/pyspark", "JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64",
			"PYSPARK_PYTHON=python3", "PYTHONPATH=/opt/py", "LANG=C.UTF-8",
			"RES_OPTIONS=attempts:5", // a DNS server that stalls for 10 s is asked again
		},
	}
	if variant == JavaOptions {
		c.Env = append(c.Env, "JDK_JAVA_OPTIONS=-De2e.image=own")
	}
	return c
}

// download downloads into a folder, each time anew.
func (s Store) download(ctx context.Context, folder, name string, args ...string) error {
	return download.Try(s.Progress, name, func() error {
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		return command(ctx, name, args...)
	})
}

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-2000):])
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
