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
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/spark"
)

// object is a Pod or Service that was read, with where it was read.
type object struct {
	source  string // "pods.yaml, document 2, items[3]"
	json    []byte
	pod     *corev1.Pod
	service *corev1.Service
}

// readObjects reads all Pods and Services of the files and folders. With a role,
// pods that have none are taken for templates of that role.
func readObjects(files []string, stdin io.Reader, role spark.Role) ([]object, error) {
	if len(files) == 0 {
		return nil, errors.New("nothing to read; name files or folders with -f, or standard input with -f -")
	}
	if role != "" && role != spark.Driver && role != spark.Executor {
		return nil, fmt.Errorf("--role is %q; it must be driver or executor", role)
	}
	r := reader{role: role}
	for _, file := range files {
		if err := r.readPath(file, stdin); err != nil {
			return nil, err
		}
	}
	if len(r.objects) == 0 {
		return nil, fmt.Errorf("no Pod or Service in %q; there were %d other objects", files, r.others)
	}
	return r.objects, nil
}

type reader struct {
	role    spark.Role
	objects []object
	others  int
}

func (r *reader) readPath(path string, stdin io.Reader) error {
	if path == "-" {
		return r.readDocuments("standard input", stdin)
	}
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if file != path && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return r.readDocuments(file, bytes.NewReader(data))
	})
}

func (r *reader) readDocuments(source string, from io.Reader) error {
	documents := yamlutil.NewYAMLReader(bufio.NewReader(from))
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		where := fmt.Sprintf("%s, document %d", source, n)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		data, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if bytes.Equal(data, []byte("null")) {
			continue
		}
		if err := r.read(where, data); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
}

func (r *reader) read(source string, data []byte) error {
	var meta metav1.TypeMeta
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &meta); err != nil {
		return err
	}
	switch meta.Kind {
	case "":
		return errors.New("kind: the object has none, so it cannot be told what it is")
	case "Pod":
		return r.readPod(source, data)
	case "Service":
		return r.readService(source, data)
	case "PodTemplate":
		return r.readTemplate(source, data)
	case "List", "PodList", "ServiceList", "PodTemplateList":
		return r.readList(source, data, meta.Kind)
	case "AdmissionReview":
		return r.readReview(source, data)
	}
	r.others++
	return nil
}

func (r *reader) readPod(source string, data []byte) error {
	pod := &corev1.Pod{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, pod); err != nil {
		return err
	}
	if r.role != "" && pod.Labels[spark.RoleLabel] == "" {
		pod = spark.FromTemplate(pod, r.role)
		var err error
		if data, err = json.Marshal(pod); err != nil {
			return err
		}
	}
	r.objects = append(r.objects, object{source: source, json: data, pod: pod})
	return nil
}

func (r *reader) readService(source string, data []byte) error {
	service := &corev1.Service{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, service); err != nil {
		return err
	}
	r.objects = append(r.objects, object{source: source, json: data, service: service})
	return nil
}

func (r *reader) readTemplate(source string, data []byte) error {
	var template struct {
		metav1.ObjectMeta `json:"metadata"`
		Template          map[string]any `json:"template"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &template); err != nil {
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
	return r.readPod(source, pod)
}

func (r *reader) readList(source string, data []byte, kind string) error {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &list); err != nil {
		return err
	}
	for i, item := range list.Items {
		where := fmt.Sprintf("items[%d]", i)
		if err := r.readItem(source+", "+where, item, kind); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// readItem: the items of a PodList need not name their kind.
func (r *reader) readItem(source string, item []byte, listKind string) error {
	switch listKind {
	case "PodList":
		return r.readPod(source, item)
	case "ServiceList":
		return r.readService(source, item)
	case "PodTemplateList":
		return r.readTemplate(source, item)
	}
	return r.read(source, item)
}

func (r *reader) readReview(source string, data []byte) error {
	var review admissionv1.AdmissionReview
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &review); err != nil {
		return err
	}
	if review.Request == nil || len(review.Request.Object.Raw) == 0 {
		return errors.New("request.object: the AdmissionReview has none")
	}
	return r.read(source, review.Request.Object.Raw)
}
