// Package export_yardarm_plugin_lifecycle implements the interface `lifecycle`.
package export_yardarm_plugin_lifecycle

import (
	types "event-filter/bindings/yardarm_plugin_types"
	"event-filter/filter"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Init reads the configuration.
func Init(config string) wit.Result[wit.Unit, types.PluginError] {
	if err := filter.Configure(config); err != nil {
		return wit.Err[wit.Unit](types.MakePluginErrorInvalidInput(err.Error()))
	}
	return wit.Ok[wit.Unit, types.PluginError](wit.Unit{})
}
