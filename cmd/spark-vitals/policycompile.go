package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/policy/compile"
)

func policyCompileCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compile [FILE]",
		Short: "Write a policy as Kubernetes' own admission policies, which need no webhook",
		Long: `Write a policy, or else the rule set "default", as MutatingAdmissionPolicies for
kubectl apply. The API server of Kubernetes 1.36 and later then injects by itself. The
head of the output lists what differs from the webhook.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, source := "default", []byte("ruleSet: default")
			if len(args) > 0 {
				var err error
				file = args[0]
				if source, err = os.ReadFile(file); err != nil {
					return fmt.Errorf("reading the policy: %w", err)
				}
			}
			p, err := policy.Parse(source)
			if err != nil {
				return fmt.Errorf("policy %s:\n%w", file, err)
			}
			compiled, err := compile.Policy(p)
			if err != nil {
				return err
			}
			text, err := compiled.YAML(source)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}
