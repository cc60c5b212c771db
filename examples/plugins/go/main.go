// An event filter in Go: drops events of configured kinds and blanks one attribute of contexts.
//
// The component exports what the packages export_yardarm_plugin_… define; the package `bindings` is generated.
package main

import _ "event-filter/bindings/wit_exports"

// main is not called: a component is a library.
func main() {}
