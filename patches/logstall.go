package patches

import (
	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// logStall stamps on a driver how long its log may be silent, for the stall
// watch, which so needs no policy and sees what the pod has chosen.
//
// Whoever makes pods can write the stamp himself. It is read within the policy's
// bounds, and all that comes of it is that his own driver is reported.
func logStall(p *Pod, c policy.Choice) {
	if c.Rule.LogStall == nil || p.Role != spark.Driver {
		return
	}
	if !p.audit {
		p.stamp(annotations.LogStallAfter, c.Rule.LogStall.After)
	}
	p.did("logStall", "reported when its log is silent for "+c.Rule.LogStall.After)
}
