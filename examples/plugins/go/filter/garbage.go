package filter

import (
	"runtime"
	"runtime/debug"
)

// Garbage is collected after this many bytes of events. Parsing takes some ten times as much memory, so a small
// multiple of this is the memory that the plugin needs.
const collectAfter = 64 << 10

// What an event costs besides its content.
const perEvent = 512

// Bytes of events since garbage was collected.
var received int

// A collection that begins while the host passes arguments reads the clock, which is not allowed at that moment and ends
// the instance. So it is switched off, and done inside of calls.
func init() {
	debug.SetGCPercent(-1)
}

// CollectGarbage is called before each event, so that a large batch needs little more memory than a small one.
func CollectGarbage() {
	if received > collectAfter {
		received = 0
		runtime.GC()
	}
}
