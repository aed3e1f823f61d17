package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// NeverGivesUp is a failureThreshold that is practically endless: with one check a
// second it is reached after 68 years.
const NeverGivesUp = 1<<31 - 1

// PortReference matches a reference in exec.command to the number of a declared port.
var PortReference = regexp.MustCompile(`\$\(port:([^)]*)\)`)

// setDefaults sets what the API server would (defaults.go of k8s.io/kubernetes), so
// what is injected is what comes back.
func setDefaults(p *corev1.Probe) {
	p.TimeoutSeconds = cmp.Or(p.TimeoutSeconds, 1)
	p.PeriodSeconds = cmp.Or(p.PeriodSeconds, 10)
	p.SuccessThreshold = cmp.Or(p.SuccessThreshold, 1)
	p.FailureThreshold = cmp.Or(p.FailureThreshold, 3)
	if get := p.HTTPGet; get != nil {
		if get.Path == "" {
			get.Path = "/"
		}
		if get.Scheme == "" {
			get.Scheme = corev1.URISchemeHTTP
		}
	}
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = new(string)
	}
}

// checkProbe finds what the API server would refuse in a probe with its defaults
// filled in, what would cost a driver its DNS name, and what would end a healthy
// container.
func (r *Rule) checkProbe(name ProbeName, p *corev1.Probe, at *field.Path) field.ErrorList {
	errs := append(checkHandler(p, at), checkNumbers(name, p, at)...)
	if len(errs) > 0 {
		return errs
	}
	v := r.caseOfRule(name, p).check(func(v verdict) bool { return v.ends && r.AcceptEarlyEnd })
	accept := "acceptUnreadyDriver"
	if v.ends {
		accept = "acceptEarlyEnd"
	}
	if v.text != "" {
		errs = append(errs, field.Forbidden(at, v.text+"; or set "+accept+": true in the rule"))
	}
	return errs
}

func checkHandler(p *corev1.Probe, at *field.Path) (errs field.ErrorList) {
	handlers := 0
	if p.Exec != nil {
		handlers++
		errs = append(errs, checkExec(p.Exec, at.Child("exec", "command"))...)
	}
	if p.HTTPGet != nil {
		handlers++
		errs = append(errs, checkHTTPGet(p.HTTPGet, at.Child("httpGet"))...)
	}
	if p.TCPSocket != nil {
		handlers++
		errs = append(errs, checkPort(p.TCPSocket.Port, at.Child("tcpSocket", "port"))...)
		errs = append(errs, checkHost(p.TCPSocket.Host, at.Child("tcpSocket", "host"))...)
	}
	if p.GRPC != nil {
		handlers++
		errs = append(errs, checkPort(intstr.FromInt32(p.GRPC.Port), at.Child("grpc", "port"))...)
	}
	switch handlers {
	case 0:
		errs = append(errs, field.Required(at, "a probe needs one of exec, httpGet, tcpSocket, grpc"))
	case 1:
	default:
		errs = append(errs, field.Forbidden(at, "a probe has only one of exec, httpGet, tcpSocket, grpc"))
	}
	return errs
}

func checkExec(exec *corev1.ExecAction, at *field.Path) (errs field.ErrorList) {
	if len(exec.Command) == 0 {
		errs = append(errs, field.Required(at, "the command and its arguments"))
	}
	for i, arg := range exec.Command {
		for _, reference := range PortReference.FindAllStringSubmatch(arg, -1) {
			for _, problem := range validation.IsValidPortName(reference[1]) {
				errs = append(errs, field.Invalid(at.Index(i), reference[0], problem))
			}
		}
	}
	return errs
}

func checkHTTPGet(get *corev1.HTTPGetAction, at *field.Path) field.ErrorList {
	errs := checkPort(get.Port, at.Child("port"))
	errs = append(errs, checkHost(get.Host, at.Child("host"))...)
	schemes := []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}
	if !slices.Contains(schemes, get.Scheme) {
		errs = append(errs, field.NotSupported(at.Child("scheme"), get.Scheme, schemes))
	}
	for i, header := range get.HTTPHeaders {
		for _, problem := range validation.IsHTTPHeaderName(header.Name) {
			errs = append(errs, field.Invalid(at.Child("httpHeaders").Index(i).Child("name"), header.Name, problem))
		}
	}
	return errs
}

func checkHost(host string, at *field.Path) field.ErrorList {
	if host == "" {
		return nil
	}
	return field.ErrorList{field.Forbidden(at, "leave it out: the kubelet then asks the pod itself, and Pod Security refuses pods whose probes name a host")}
}

func checkPort(port intstr.IntOrString, at *field.Path) (errs field.ErrorList) {
	var problems []string
	if port.Type == intstr.String {
		problems = validation.IsValidPortName(port.StrVal)
	} else {
		problems = validation.IsValidPortNum(port.IntValue())
	}
	for _, problem := range problems {
		errs = append(errs, field.Invalid(at, port.String(), problem))
	}
	return errs
}

func checkNumbers(name ProbeName, p *corev1.Probe, at *field.Path) (errs field.ErrorList) {
	for _, f := range numericFields {
		if n := f.get(p); n < 0 {
			errs = append(errs, field.Invalid(at.Child(f.name), n, "must not be negative"))
		}
	}
	if name != Readiness && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, fmt.Sprintf("must be 1 for a %s probe", name)))
	}
	if grace := p.TerminationGracePeriodSeconds; grace != nil {
		at := at.Child("terminationGracePeriodSeconds")
		switch {
		case name == Readiness:
			errs = append(errs, field.Forbidden(at, "a readiness probe ends nothing, so it has no grace period"))
		case *grace == 0:
			errs = append(errs, field.Invalid(at, *grace, "must be greater than 0"))
		}
	}
	return errs
}

// Target returns the number or the name of the port that the kubelet asks. Both are
// zero for exec, which asks none.
func Target(p *corev1.Probe) (number int32, name string) {
	var port intstr.IntOrString
	switch {
	case p.HTTPGet != nil:
		port = p.HTTPGet.Port
	case p.TCPSocket != nil:
		port = p.TCPSocket.Port
	case p.GRPC != nil:
		port = intstr.FromInt32(p.GRPC.Port)
	}
	if port.Type == intstr.String {
		return 0, port.StrVal
	}
	return port.IntVal, ""
}
