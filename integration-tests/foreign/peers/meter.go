package main

import (
	"slices"
	"syscall"
	"time"
)

// A meter measures this process.
type meter struct {
	start time.Time
	cpu   float64
}

func startMeter() meter { return meter{time.Now(), cpuSeconds()} }

func (m meter) stop(records int) map[string]any {
	return map[string]any{
		"records": records, "seconds": time.Since(m.start).Seconds(), "client_cpu_seconds": cpuSeconds() - m.cpu,
	}
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

type spans []time.Duration

// percentiles puts them into `measured`, in microseconds.
func (s spans) percentiles(measured map[string]any) {
	if len(s) == 0 {
		return
	}
	slices.Sort(s)
	at := func(quantile float64) float64 {
		place := min(int(quantile*float64(len(s))), len(s)-1)
		return float64(s[place].Nanoseconds()) / 1e3
	}
	measured["p50_us"], measured["p99_us"], measured["p99_9_us"] = at(0.5), at(0.99), at(0.999)
	measured["max_us"] = at(1)
}
