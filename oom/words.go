package oom

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Words is what the end of a container's log says about why it ended, as far as this
// package understands it. Only the lines that the JVM writes when it ends itself are
// certain.
type Words struct {
	// OutOfMemory is the line in which the pod's own JVM says what it ran out of.
	OutOfMemory string
	// Ended is true if the JVM ended itself with that line.
	Ended bool
	// Command is the command that the JVM ran then, by -XX:OnOutOfMemoryError.
	Command string
	// Crash is what the JVM says about its own crash: the signal, the frame and the
	// path of the report.
	Crash string
	// Done is true if an executor ended because its driver asked it to.
	Done bool
	// Limit is the line in which Spark names its own limit.
	Limit string
}

const (
	// outOfMemoryError is how the JVM names every lack of memory.
	outOfMemoryError = "java.lang.OutOfMemoryError"
	maxLine          = 230                           // more than a quote, so the quote can end with a whole word
	commanded        = "Driver commanded a shutdown" // CoarseGrainedExecutorBackend.scala
)

// What the JVM writes (HotSpot: debug.cpp, report_java_out_of_memory; vmError.cpp)
// and what Spark writes.
var (
	endedBy     = regexp.MustCompile(`(?:Terminating|Aborting) due to (java\.lang\.OutOfMemoryError.*)`)
	fatalHeap   = regexp.MustCompile(`(?m)^#  fatal error: OutOfMemory encountered: (.*)$`)
	nativeAlloc = regexp.MustCompile(`(?m)^# (Native memory allocation \(\w+\) failed.*)$`)
	hook        = regexp.MustCompile(`# (java\.lang\.OutOfMemoryError.*)\n# -XX:OnOutOfMemoryError="(.*)"`)
	crashSignal = regexp.MustCompile(`# A fatal error has been detected by the Java Runtime Environment:\n#\n#  (.*)`)
	crashFrame  = regexp.MustCompile(`# Problematic frame:\n# (.*)`)
	crashReport = regexp.MustCompile(`(?m)^# (\S*hs_err_\S*)`)
	crashKept   = regexp.MustCompile(`(?m)^# JVM crash: (.*)$`) // as String writes it
	crashWhere  = regexp.MustCompile(`(?: at pc=|, pid=).*`)
	resultSize  = regexp.MustCompile(`Total size of serialized results .* is bigger than spark\.driver\.maxResultSize[^\n]*`)
)

// A driver's log may be about itself or about its executors.
var (
	// executors finds words about executors: "Job aborted due to stage failure: ... Lost
	// task 0.3 in stage 0.0 (TID 3) (10.0.0.7 executor 4): ".
	executors = regexp.MustCompile(`Lost task|stage failure|Job aborted|Driver stacktrace|executor [^\s)]*[0-9]\):|executor\.Executor\$TaskRunner`)
	// itself finds words about the driver: it could not serialize the task.
	itself = regexp.MustCompile(`Task (?:serialization|creation) failed`)
	// local matches words about the driver in local mode: it is its own executor.
	local = regexp.MustCompile(`executor driver\):`)
	// ownThread matches what the driver's own JVM writes when a thread ends because of
	// it.
	ownThread = regexp.MustCompile(`(?:Exception in thread "[^"\n]*" |Uncaught exception in thread [^\n]*\n)$`)
)

// WordsOf reads a text, the end of the log of a pod of this role.
func WordsOf(role spark.Role, text string) Words {
	w := Words{Done: role == spark.Executor && strings.Contains(text, commanded), Crash: crashOf(text), Limit: clip(resultSize.FindString(text))}
	if found := last(endedBy, text); found != nil {
		w.OutOfMemory, w.Ended = found[1], true
	} else if found := last(fatalHeap, text); found != nil {
		w.OutOfMemory, w.Ended = outOfMemoryError+": "+found[1], true
	} else if found := last(nativeAlloc, text); found != nil {
		w.OutOfMemory, w.Ended = found[1], true
	} else if found := last(hook, text); found != nil {
		w.OutOfMemory, w.Command = found[1], clip(found[2])
	} else {
		w.OutOfMemory = thrown(role, text)
	}
	w.OutOfMemory = clip(w.OutOfMemory)
	return w
}

func last(r *regexp.Regexp, text string) []string {
	if all := r.FindAllStringSubmatch(text, -1); len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

func clip(line string) string {
	line, _, _ = strings.Cut(line, "\n")
	return strings.Clone(strings.TrimSpace(strings.ToValidUTF8(line[:min(len(line), maxLine)], "")))
}

// thrown returns the line of the last OutOfMemoryError in a text, or "" if an executor
// threw it and a driver reports it.
func thrown(role spark.Role, text string) string {
	i := strings.LastIndex(text, outOfMemoryError)
	if i < 0 {
		return ""
	}
	if role == spark.Driver && !local.MatchString(text) && !ownThread.MatchString(text[:i]) &&
		(executorsSpeak(text[:i]) || strings.Contains(text[i:], "executor.Executor$TaskRunner")) {
		return ""
	}
	line, rest, _ := strings.Cut(text[i:], "\n")
	if line = strings.TrimSpace(line); line == outOfMemoryError { // without words, where it was thrown says more
		if frame, _, _ := strings.Cut(strings.TrimSpace(rest), "\n"); strings.HasPrefix(frame, "at ") {
			line += " " + frame
		}
	}
	return line
}

// executorsSpeak reports whether the words after a text are about executors.
func executorsSpeak(before string) bool {
	theirs, own := executors.FindAllStringIndex(before, -1), itself.FindAllStringIndex(before, -1)
	return len(theirs) > 0 && (len(own) == 0 || own[len(own)-1][0] < theirs[len(theirs)-1][0])
}

// crashOf returns "SIGBUS (0x7), frame V [libjvm.so+0x5a0f4e], report
// /opt/spark/work-dir/hs_err_pid15.log", as far as the text has it.
func crashOf(text string) string {
	if found := last(crashKept, text); found != nil {
		return clip(found[1])
	}
	var parts []string
	if found := last(crashSignal, text); found != nil {
		parts = append(parts, crashWhere.ReplaceAllString(found[1], ""))
	}
	if found := last(crashFrame, text); found != nil {
		parts = append(parts, "frame "+strings.Join(strings.Fields(found[1]), " "))
	}
	if found := last(crashReport, text); found != nil {
		parts = append(parts, "report "+found[1])
	}
	return clip(strings.Join(parts, ", "))
}

// String returns a short text with the same words.
func (w Words) String() string {
	var lines []string
	switch {
	case w.OutOfMemory == "":
	case w.Ended && strings.HasPrefix(w.OutOfMemory, outOfMemoryError):
		lines = append(lines, "Terminating due to "+w.OutOfMemory)
	case w.Ended:
		lines = append(lines, "# "+w.OutOfMemory)
	case w.Command != "":
		lines = append(lines, "# "+w.OutOfMemory, `# -XX:OnOutOfMemoryError="`+w.Command+`"`)
	default:
		lines = append(lines, w.OutOfMemory)
	}
	if w.Crash != "" {
		lines = append(lines, "# JVM crash: "+w.Crash)
	}
	if w.Limit != "" {
		lines = append(lines, w.Limit)
	}
	if w.Done {
		lines = append(lines, commanded)
	}
	return strings.Join(lines, "\n")
}

// heapWords are the words of an OutOfMemoryError against which more heap helps:
// HotSpot's and Spark's (BroadcastExchangeExec). All others are about something else:
// the length of an array or a string, direct buffers, threads, or what a library says.
var heapWords = []string{"Java heap space", "GC overhead limit exceeded", "Not enough memory to build and broadcast"}

func isHeap(line string) bool {
	said, ok := strings.CutPrefix(line, outOfMemoryError+": ")
	return ok && slices.ContainsFunc(heapWords, func(words string) bool { return strings.HasPrefix(said, words) })
}

// Options by which a JVM ends itself when it runs out of memory.
const (
	exitOption  = "-XX:+ExitOnOutOfMemoryError"
	crashOption = "-XX:+CrashOnOutOfMemoryError"
	hookOption  = "-XX:OnOutOfMemoryError"
)

var hookCommand = regexp.MustCompile(hookOption + `=(?:"([^"]*)"|'([^']*)'|(.*))`)

// EndsItself returns the options by which a JVM ends itself when it runs out of memory,
// in a form that it also reads. Other options may have secrets.
func EndsItself(options string) string {
	var kept []string
	for _, option := range []string{exitOption, crashOption} {
		if strings.Contains(options, option) {
			kept = append(kept, option)
		}
	}
	for _, found := range hookCommand.FindAllStringSubmatch(options, -1) {
		if signal := killedWith(found[1] + found[2] + found[3]); signal != "" {
			kept = append(kept, hookOption+`="kill -`+signal+` %p"`)
		}
	}
	return strings.Join(kept, " ")
}

// endsWith returns the one of these options that ends the JVM with an exit code, or ""
// if none does.
func endsWith(options string, code int32) string {
	options = EndsItself(options)
	switch {
	case code == exitOnOutOfMemory && strings.Contains(options, exitOption):
		return exitOption
	case code == exitSIGABRT && strings.Contains(options, crashOption):
		return crashOption
	}
	for signal, number := range signals {
		if code == exitSignals+number && strings.Contains(options, "kill -"+signal+" ") {
			return hookOption
		}
	}
	return ""
}

// signals are the signals that end a JVM, by the names that commands use.
var signals = map[string]int32{"HUP": 1, "INT": 2, "ABRT": 6, "KILL": 9, "TERM": 15}

var numbers = map[string]string{"1": "HUP", "2": "INT", "6": "ABRT", "9": "KILL", "15": "TERM"}

// killedWith returns the signal that a command sends to end a process. It returns "" if
// the command does not end it: a thread dump (kill -3) does not.
func killedWith(command string) (signal string) {
	words := strings.FieldsFunc(command, func(r rune) bool { return strings.ContainsRune(" \t;&|\"'`()", r) })
	for i, word := range words {
		if !slices.Contains([]string{"kill", "pkill", "killall"}, path.Base(word)) {
			continue
		}
		sent := "TERM"
		if rest := words[i+1:]; len(rest) > 1 && strings.HasPrefix(rest[0], "-") {
			sent = strings.TrimPrefix(strings.TrimLeft(rest[0], "-"), "signal=")
			if sent == "s" || sent == "n" || sent == "signal" {
				sent = rest[1]
			}
		}
		sent = strings.TrimPrefix(strings.ToUpper(sent), "SIG")
		if name, ok := numbers[sent]; ok {
			sent = name
		}
		if _, ends := signals[sent]; ends {
			return sent
		}
	}
	return ""
}
