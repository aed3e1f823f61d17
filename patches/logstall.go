package patches

import (
	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// logStall stamps on a driver how long its log may be silent. So the stall watch needs
// no policy, and sees what the pod has chosen.
//
// Anyone who may create pods can write the stamp. The stall watch reads it within the
// policy's bounds, and only reports that driver because of it.
func logStall(p *Pod, c policy.Choice) {
	if c.Rule.LogStall == nil || p.Role != spark.Driver {
		return
	}
	if !p.audit {
		p.stamp(annotations.LogStallAfter, c.Rule.LogStall.After)
	}
	p.did("logStall", "reported when its log is silent for "+c.Rule.LogStall.After)
}
