package main

import (
	"errors"
	"fmt"
	"io"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

func previewCommand() *cobra.Command {
	var (
		files              []string
		output, policyFile string
		role               string
		in                 input
	)
	command := &cobra.Command{
		Use:   "preview -f FILE",
		Short: "Show offline what would be injected into a pod, and why",
		Long: `Show offline what the webhook would do to pods and driver Services, and why.

preview reads YAML or JSON from files, folders or, with "-f -", standard input. It reads
Pods, Services, PodTemplates, Lists and AdmissionReviews. It also reads the pod templates
in SparkApplications, SparkConnects, Deployments, Jobs and the like, and ConfigMaps. It
names each object that it skips. Read a file that
spark.kubernetes.driver.podTemplateFile names with --role driver.

Exit status: 0 if all is well; 1 if something could not be read; 2 if you should fix
something. That is an ignored setting, a probe that harms Spark, or a field that
Kubernetes does not know.`,
		Example: `  kubectl get pod -o yaml | spark-vitals preview -f -
  spark-vitals preview -f driver-template.yaml --role driver --policy policy.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := readPolicy(policyFile)
			if err != nil {
				return err
			}
			show, ok := previewOutputs[output]
			if !ok {
				return fmt.Errorf("-o is %q; it must be diff, yaml, json or patch", output)
			}
			if in.template.Role, err = roleOf(role); err != nil {
				return err
			}
			if err := in.readObjects(files, c.InOrStdin()); err != nil {
				return err
			}
			err = preview(c.OutOrStdout(), in.objects, p, show)
			switch {
			case err != nil && !errors.Is(err, errFound):
			case output == "diff":
				printSkipped(c.OutOrStdout(), in.skipped)
			default: // the output is for programs
				printSkipped(c.ErrOrStderr(), in.skipped)
			}
			return err
		},
	}
	flags := command.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "file or folder to read, - for standard input; can be repeated")
	flags.StringVarP(&output, "output", "o", "diff", "diff (readable, with reasons), yaml, json (the object as it would be) or patch (RFC 6902)")
	flags.StringVar(&policyFile, "policy", "", "policy file; by default the rule set \"default\"")
	flags.StringVar(&role, "role", "", "read pods without the label spark-role as pod templates of a driver or executor")
	flags.StringVar(&in.template.Container, "container", "", "of pod templates: spark.kubernetes.<role>.podTemplateContainerName")
	flags.StringVar(&in.template.Version, "spark-version", "", "of pod templates: the version of Spark; by default an old one")
	flags.StringVar(&in.template.MainClass, "class", "", "of pod templates of a driver: the main class")
	return command
}

func roleOf(flag string) (spark.Role, error) {
	switch role := spark.Role(flag); role {
	case "", spark.Driver, spark.Executor:
		return role, nil
	}
	return "", fmt.Errorf("--role is %q; it must be driver or executor", flag)
}

// previewed is an object with the changes that spark-vitals would make.
type previewed struct {
	object
	patches.Result
	why   string // why it is not Spark's, or "" if it is
	after []byte // the object as JSON, as it would be
}

func preview(out io.Writer, objects []object, p *policy.Policy, show func(io.Writer, []previewed) error) error {
	var all []previewed
	found := false
	for _, o := range objects {
		each, err := o.preview(p)
		if err != nil {
			return fmt.Errorf("%s: %w", o.source, err)
		}
		found = found || len(each.unknown) > 0 || each.doubt != ""
		for _, w := range each.Warnings {
			found = found || w.IsUsersFault()
		}
		all = append(all, each)
	}
	if err := show(out, all); err != nil {
		return err
	}
	if found {
		return errFound
	}
	return nil
}

func (o object) preview(p *policy.Policy) (previewed, error) {
	result := previewed{object: o, after: o.json}
	switch {
	case o.service != nil && patches.IsDriverService(o.service):
		result.Result = patches.ApplyToService(o.service, p.ForService(o.service, policy.Enabled))
	case o.service != nil:
		result.why = "not the headless Service of a Spark driver"
	default:
		pod, err := spark.PodOf(o.pod)
		if err != nil {
			result.why = err.Error()
			break
		}
		result.Result = patches.Apply(pod, p.For(pod, policy.Enabled))
	}
	if len(result.Operations) == 0 || result.why != "" {
		return result, nil
	}
	text, err := patchJSON(result.Operations)
	if err != nil {
		return result, err
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return result, err
	}
	result.after, err = patch.Apply(o.json)
	return result, err
}
