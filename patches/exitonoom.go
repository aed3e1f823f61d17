package patches

import (
	"regexp"
	"strings"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// exitOnOutOfMemoryError makes a driver's JVM end at the first exhaustion of its heap,
// by -XX:+ExitOnOutOfMemoryError in JDK_JAVA_OPTIONS, which the java launcher of JDK 9
// and later reads. Without it such a driver often runs forever, with a dead scheduler
// thread and a UI that answers.
//
// Its measured cost: an oversized broadcast join ends the driver (exit 3), although
// Spark would have failed one query with advice. On a shared engine all sessions end.
// Shutdown hooks do not run, so event logs stay "in progress". It replaces a
// JDK_JAVA_OPTIONS of the image, which cannot be seen here. It is off in every
// ready-made rule set. It is for users who own their drivers, and gives a warning if
// others have sessions on them.
//
// It leaves the pod alone with envFrom or valueFrom, because nothing can be appended to
// such a value, and if the user has chosen what happens. A heap dump is not such a
// choice: the JVM writes it and then ends.
func exitOnOutOfMemoryError(p *Pod, c policy.Choice) {
	const (
		field    = "exitOnOutOfMemoryError"
		variable = "JDK_JAVA_OPTIONS"
		option   = "-XX:+ExitOnOutOfMemoryError"
	)
	if !c.Rule.ExitOnOutOfMemoryError || p.Role != spark.Driver {
		return
	}
	last := -1
	for i, e := range p.Container().Env {
		if e.Name == variable {
			last = i
		}
	}
	switch {
	case last < 0 && len(p.Container().EnvFrom) > 0:
		p.leave(field, "envFrom may bring "+variable+", and the variable would replace it")
		return
	case last < 0:
		p.addEnv(variable, option)
	case p.Container().Env[last].ValueFrom != nil:
		p.leave(field, variable+" comes from elsewhere (valueFrom)")
		return
	case strings.Contains(p.Container().Env[last].Value, option) && p.wasSet(field):
	case ownChoice.MatchString(p.Container().Env[last].Value):
		p.leave(field, "the user's own")
		return
	default:
		p.setEnv(last, strings.TrimSpace(p.Container().Env[last].Value+" "+option))
	}
	p.did(field, "the JVM ends (exit 3) at the first exhaustion of its heap instead of going on without its scheduler")
	if p.IsShared() {
		p.warn(policy.Warning{
			Kind: policy.EndsSessions, Field: "metadata.annotations[" + annotations.Prefix + field + "]",
			Text: `one user's OutOfMemoryError ends this engine for all its users, who then see a closed socket. Without this setting only the statement fails, with "java.lang.OutOfMemoryError: Java heap space", and the engine lives on. Set it to "false", or leave it out of the rule for engines`,
		})
	}
}

// ownChoice matches an option of the JVM that decides whether it ends.
var ownChoice = regexp.MustCompile(`-XX:(\+|-)(Exit|Crash)OnOutOfMemoryError|-XX:OnOutOfMemoryError=`)
