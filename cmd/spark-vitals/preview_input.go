package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/strict"
	"github.com/spark-vitals/spark-vitals/spark"
)

// object is a Pod or Service that was read.
type object struct {
	source  string // "pods.yaml, document 2, items[3]"
	json    []byte
	pod     *corev1.Pod
	service *corev1.Service
	unknown []error // fields that the API server would refuse or leave out
	doubt   string  // which container of a pod template Spark will take
	hints   []string
	holder  string // of the pod template
	// template is true for a pod template, which Spark or a controller completes.
	template bool
}

// reading is how a pod or pod template is read.
type reading struct {
	template   spark.Template
	isTemplate bool   // and not perhaps a pod that exists
	from       string // its place in another object
	name       string // of a pod that has none
	fill       func(*corev1.Pod) error
	hints      []string
	problems   []error
}

// skipped is an object that is not read.
type skipped struct{ kind, name, source, why string }

// input reads objects. If it has a role, pods without one are templates of Spark's.
type input struct {
	template spark.Template
	objects  []object
	skipped  []skipped
	empty    bool
}

// readObjects reads all Pods and Services of the files and folders.
func (in *input) readObjects(files []string, stdin io.Reader) error {
	if len(files) == 0 {
		return errors.New("nothing to read; name files or folders with -f, or standard input with -f -")
	}
	for _, file := range files {
		if err := in.readPath(file, stdin); err != nil {
			return err
		}
	}
	if len(in.objects) == 0 && len(in.skipped) == 0 && !in.empty {
		return fmt.Errorf("no Kubernetes object in %q: it is empty, or has only comments", files)
	}
	if in.template.Container != "" && len(in.objects) > 0 && !slices.ContainsFunc(in.objects, func(o object) bool { return o.template }) {
		return errors.New("--container is about pod templates, and none was read; --role reads pods without the label spark-role as templates")
	}
	return nil
}

func (in *input) skip(source, kind, name, why string) {
	in.skipped = append(in.skipped, skipped{kind, name, source, why})
}

func (in *input) readPath(path string, stdin io.Reader) error {
	if path == "-" {
		data, err := io.ReadAll(stdin)
		if err != nil {
			return fmt.Errorf("reading standard input: %w", err)
		}
		return in.readDocuments("standard input", data, false)
	}
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		walked := file != path
		if walked && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return in.readDocuments(file, data, walked)
	})
}

// readDocuments reads YAML documents, or JSON values one after the other. It skips a
// file of a folder that has no object of Kubernetes.
func (in *input) readDocuments(source string, data []byte, walked bool) error {
	data, err := decoded(data)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	documents := splitYAML(data)
	switch text := bytes.TrimSpace(data); {
	case bytes.HasPrefix(text, []byte("//")), bytes.HasPrefix(text, []byte("/*")):
		return fmt.Errorf("%s: it begins with a comment; JSON has no comments; remove them", source)
	case bytes.Contains(text, []byte("\n---")): // of YAML, among which there may be JSON
	case bytes.HasPrefix(text, []byte("{")), bytes.HasPrefix(text, []byte("[")):
		documents = splitJSON(data)
	}
	for n := 1; ; n++ {
		where := fmt.Sprintf("%s, document %d", source, n)
		document, err := documents()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil && document != nil:
			err = in.read(where, document)
		}
		if walked && errors.Is(err, errNoKind) {
			in.skip(where, "object", "without a kind", "it is not a Kubernetes object")
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
}

func splitYAML(data []byte) func() (json.RawMessage, error) {
	documents := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	return func() (json.RawMessage, error) {
		document, err := documents.Read()
		if err != nil {
			return nil, err
		}
		data, err := yaml.YAMLToJSONStrict(document)
		if err != nil && bytes.Contains(document, []byte("\n\t")) {
			err = fmt.Errorf("%w; lines begin with tabs, and YAML is indented by spaces", err)
		}
		if bytes.Equal(data, []byte("null")) {
			return nil, err
		}
		return data, err
	}
}

func splitJSON(data []byte) func() (json.RawMessage, error) {
	values := json.NewDecoder(bytes.NewReader(data))
	return func() (value json.RawMessage, err error) {
		start := int(values.InputOffset())
		if err = values.Decode(&value); err != nil && !errors.Is(err, io.EOF) {
			err = jsonError(data, start, err)
		}
		return value, err
	}
}

var errNoKind = errors.New("kind: the object has none; add its kind")

// header is the part of an object that decides how it is read. Type and Object are
// those of an event of "kubectl get --watch --output-watch-events".
type header struct {
	metav1.TypeMeta
	Metadata struct{ Name, Namespace string } `json:"metadata"`
	Type     string                           `json:"type"`
	Object   json.RawMessage                  `json:"object"`
}

func (h *header) name() string { return qualified(h.Metadata.Namespace, h.Metadata.Name) }

func (in *input) read(source string, data []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		return in.readArray(source, data)
	}
	var meta header
	if err := json.Unmarshal(data, &meta); err != nil {
		return errNoKind
	}
	if all := holdersOf(meta.APIVersion, meta.Kind); all != nil || meta.Kind == "ConfigMap" {
		return in.readHolder(source, data, &meta, all)
	}
	switch meta.Kind {
	case "":
		if len(meta.Object) > 0 && meta.Type != "" {
			return in.read(source+", "+meta.Type, meta.Object)
		}
		if in.template.Role == "" {
			return errNoKind
		}
		return in.readPod(source, data)
	case "List", "PodList", "ServiceList", "PodTemplateList":
		return in.readList(source, data, meta.Kind)
	}
	if read := in.reader(meta.Kind); read != nil {
		return read(source, data)
	}
	if right := spelled(meta.Kind); right != "" {
		return fmt.Errorf("kind: %q must be spelled %q", meta.Kind, right)
	}
	in.skip(source, meta.Kind, meta.name(), "it is not a pod and holds none")
	return nil
}

// reader returns the function that reads an object of a kind, or nil if it is read in
// another way.
func (in *input) reader(kind string) func(source string, data []byte) error {
	return map[string]func(string, []byte) error{
		"Pod": in.readPod, "Service": in.readService, "PodTemplate": in.readTemplate, "AdmissionReview": in.readReview, "Table": in.readTable,
	}[kind]
}

func (in *input) readArray(source string, data []byte) error {
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return err
	}
	return in.readItems(source, "", items, in.read)
}

// readItems reads the items of the list at a path in an object.
func (in *input) readItems(source, at string, items []json.RawMessage, read func(source string, data []byte) error) error {
	in.empty = in.empty || len(items) == 0
	for i, item := range items {
		where := fmt.Sprintf("%s[%d]", at, i)
		if err := read(source+", "+where, item); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// readTable reads the API server's answer to kubectl's tables. Most have only the
// metadata of objects.
func (in *input) readTable(source string, data []byte) error {
	var table struct {
		Rows []struct {
			Object json.RawMessage `json:"object"`
		} `json:"rows"`
	}
	if _, err := strict.Decode(data, &table, nil); err != nil {
		return err
	}
	in.empty = in.empty || len(table.Rows) == 0
	for i, row := range table.Rows {
		var meta metav1.TypeMeta
		if err := json.Unmarshal(row.Object, &meta); err != nil || meta.Kind == "" || meta.Kind == "PartialObjectMetadata" {
			in.skip(source, "Table", fmt.Sprintf("row %d", i), "a table does not hold whole pods; use kubectl get -o yaml")
			continue
		}
		if err := in.read(fmt.Sprintf("%s, rows[%d]", source, i), row.Object); err != nil {
			return fmt.Errorf("rows[%d].object: %w", i, err)
		}
	}
	return nil
}

func (in *input) readPod(source string, data []byte) error {
	return in.readPodAs(source, data, reading{template: in.template})
}

func (in *input) readPodAs(source string, data []byte, r reading) error {
	o := object{source: source, json: data, pod: &corev1.Pod{}, hints: r.hints, template: r.isTemplate || r.from != ""}
	unknown, err := strict.Decode(data, o.pod, nil)
	if err != nil {
		return err
	}
	if o.pod.UID == "" { // what comes from an API server may be newer than we
		o.unknown = slices.Concat(r.problems, unknown)
	}
	if o.pod.Name == "" && r.name != "" {
		o.pod.Name = r.name
	}
	role := spark.Role(o.pod.Labels[spark.RoleLabel])
	if r.template.Role != "" && (role == "" || unmade(o.pod)) {
		r.isTemplate = true
	}
	if role == spark.Driver || role == spark.Executor {
		if !r.isTemplate && r.from == "" && unmade(o.pod) {
			r.isTemplate, r.template.Role = true, role
			o.hints = append(o.hints, "read as a pod template of "+string(role)+"s, as it has nothing that Spark adds")
		}
	} else if r.template.Role == "" && o.pod.UID == "" {
		o.hints = append(o.hints, "if it is a pod template of Spark's, --role driver or --role executor reads it as one")
	}
	if r.isTemplate && r.template.Role != "" {
		if err := o.complete(&r); err != nil {
			return err
		}
	}
	in.objects = append(in.objects, o)
	return nil
}

// complete adds to a pod template what Spark adds.
func (o *object) complete(r *reading) (err error) {
	o.template = true
	if r.fill != nil {
		if err := r.fill(o.pod); err != nil {
			return err
		}
	}
	o.doubt = r.template.Doubt(o.pod)
	if o.json, err = json.Marshal(r.template.Complete(o.pod)); err != nil {
		return err
	}
	o.pod = &corev1.Pod{} // as the JSON has it, without what is empty
	return json.Unmarshal(o.json, o.pod)
}

// unmade reports whether a pod is a template. Spark cannot have made it: it has
// neither Spark's labels nor its environment nor its arguments.
func unmade(p *corev1.Pod) bool {
	if p.UID != "" || p.Status.Phase != "" || p.Labels[spark.ApplicationLabel] != "" || len(p.OwnerReferences) > 0 {
		return false
	}
	return !slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return len(c.Args) > 0 && (c.Args[0] == string(spark.Driver) || c.Args[0] == string(spark.Executor)) ||
			slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
				return e.Name == "SPARK_DRIVER_BIND_ADDRESS" || e.Name == "SPARK_EXECUTOR_ID"
			})
	})
}

func (in *input) readService(source string, data []byte) error {
	o := object{source: source, json: data, service: &corev1.Service{}}
	if _, err := strict.Decode(data, o.service, nil); err != nil {
		return err
	}
	in.objects = append(in.objects, o)
	return nil
}

func (in *input) readTemplate(source string, data []byte) error {
	var template struct {
		Template map[string]any `json:"template"`
	}
	if _, err := strict.Decode(data, &template, nil); err != nil {
		return err
	}
	if template.Template == nil {
		return errors.New("template: the PodTemplate has none")
	}
	template.Template["apiVersion"], template.Template["kind"] = "v1", "Pod"
	pod, err := json.Marshal(template.Template)
	if err != nil {
		return err
	}
	return in.readPod(source, pod)
}

func (in *input) readList(source string, data []byte, kind string) error {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if _, err := strict.Decode(data, &list, nil); err != nil {
		return err
	}
	read := in.reader(strings.TrimSuffix(kind, "List")) // the items of a PodList need not name their kind
	if read == nil {
		read = in.read
	}
	return in.readItems(source, "items", list.Items, read)
}

func (in *input) readReview(source string, data []byte) error {
	var review admissionv1.AdmissionReview
	if _, err := strict.Decode(data, &review, nil); err != nil {
		return err
	}
	if review.Request != nil && review.Request.Operation == admissionv1.Delete {
		in.skip(source, "AdmissionReview", string(review.Request.UID), "its operation is DELETE, which the webhook is not asked about")
		return nil
	}
	if review.Request == nil || len(review.Request.Object.Raw) == 0 {
		return errors.New("request.object: the AdmissionReview has none")
	}
	return in.read(source, review.Request.Object.Raw)
}
