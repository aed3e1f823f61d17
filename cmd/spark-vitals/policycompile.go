package main

import (
	"github.com/spf13/cobra"

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
			p, err := readPolicy(append(args, "")[0])
			if err != nil {
				return err
			}
			compiled, err := compile.Policy(p)
			if err != nil {
				return err
			}
			text, err := compiled.YAML()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}
