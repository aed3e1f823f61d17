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

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
}

// input reads objects. With a role, pods that have none are templates of Spark's.
type input struct {
	template spark.Template
	objects  []object
	passed   int // objects of other kinds
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
	if len(in.objects) == 0 && !in.empty {
		return fmt.Errorf("no Pod or Service in %q; there were %d other objects", files, in.passed)
	}
	return nil
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

// readDocuments reads YAML documents, or JSON values one after the other. In a
// folder, files that are no objects of Kubernetes are passed over.
func (in *input) readDocuments(source string, data []byte, walked bool) error {
	documents := splitYAML(data)
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
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
			in.passed++
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
		if bytes.Equal(data, []byte("null")) {
			return nil, err
		}
		return data, err
	}
}

func splitJSON(data []byte) func() (json.RawMessage, error) {
	values := json.NewDecoder(bytes.NewReader(data))
	return func() (value json.RawMessage, err error) {
		err = values.Decode(&value)
		return value, err
	}
}

var errNoKind = errors.New("kind: the object has none, so it cannot be told what it is")

func (in *input) read(source string, data []byte) error {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return errNoKind
	}
	switch meta.Kind {
	case "":
		if in.template.Role == "" {
			return errNoKind
		}
		return in.readPod(source, data)
	case "Pod":
		return in.readPod(source, data)
	case "Service":
		return in.readService(source, data)
	case "PodTemplate":
		return in.readTemplate(source, data)
	case "List", "PodList", "ServiceList", "PodTemplateList":
		return in.readList(source, data, meta.Kind)
	case "AdmissionReview":
		return in.readReview(source, data)
	}
	in.passed++
	return nil
}

func (in *input) readPod(source string, data []byte) error {
	o := object{source: source, json: data, pod: &corev1.Pod{}}
	unknown, err := strict.Decode(data, o.pod, nil)
	if err != nil {
		return err
	}
	if o.pod.UID == "" { // what comes from an API server may be newer than we
		o.unknown = unknown
	}
	if in.template.Role != "" && o.pod.Labels[spark.RoleLabel] == "" {
		o.doubt = in.template.Doubt(o.pod)
		o.pod = in.template.Complete(o.pod)
		if o.json, err = json.Marshal(o.pod); err != nil {
			return err
		}
	}
	in.objects = append(in.objects, o)
	return nil
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
	in.empty = in.empty || len(list.Items) == 0
	for i, item := range list.Items {
		where := field.NewPath("items").Index(i)
		if err := in.readItem(fmt.Sprintf("%s, %s", source, where), item, kind); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// readItem: the items of a PodList need not name their kind.
func (in *input) readItem(source string, item []byte, listKind string) error {
	switch listKind {
	case "PodList":
		return in.readPod(source, item)
	case "ServiceList":
		return in.readService(source, item)
	case "PodTemplateList":
		return in.readTemplate(source, item)
	}
	return in.read(source, item)
}

func (in *input) readReview(source string, data []byte) error {
	var review admissionv1.AdmissionReview
	if _, err := strict.Decode(data, &review, nil); err != nil {
		return err
	}
	if review.Request == nil || len(review.Request.Object.Raw) == 0 {
		return errors.New("request.object: the AdmissionReview has none")
	}
	return in.read(source, review.Request.Object.Raw)
}
