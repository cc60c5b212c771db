// Package memory frees memory at moments at which that is allowed.
package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Garbage is collected once there are this many bytes of objects, which is a part of the memory that the plugin has.
const collectAt = 4 << 20

var heap = []metrics.Sample{
	{Name: "/memory/classes/heap/objects:bytes"},
}

// A collection that begins while the host passes arguments reads the clock, which is not allowed at that moment and ends
// the instance. So it is switched off, and done at the end of calls.
func init() {
	debug.SetGCPercent(-1)
}

// Collect is deferred by each function that is exported.
func Collect() {
	metrics.Read(heap)
	if heap[0].Value.Uint64() > collectAt {
		runtime.GC()
	}
}
