package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func policyCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "policy FILE",
		Short: "Check a policy, and print its rules in the order in which they are tried",
		Long: `Check a policy as the webhook does when it starts. Errors name each wrong field and
what to write instead.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			for _, rule := range p.Rules() {
				fmt.Fprintf(c.OutOrStdout(), "%s (%s)\n", rule.Name, rule.Match.Role)
			}
			return nil
		},
	}
	command.AddCommand(policyCompileCommand())
	return command
}
