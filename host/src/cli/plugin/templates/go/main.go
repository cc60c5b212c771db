// {{about}}.
//
// The component exports what the packages export_yardarm_plugin_… define; the package `bindings` is generated.
package main

import _ "{{name}}/bindings/wit_exports"

// main is not called: a component is a library.
func main() {}
