// Package export_yardarm_plugin_lifecycle implements the interface `lifecycle`.
package export_yardarm_plugin_lifecycle

import (
	"encoding/json"

	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Init reads the configuration.
func Init(text string) wit.Result[wit.Unit, types.PluginError] {
	if err := json.Unmarshal([]byte(text), &config.Settings); err != nil {
		return wit.Err[wit.Unit](types.MakePluginErrorInvalidInput(err.Error()))
	}
	return wit.Ok[wit.Unit, types.PluginError](wit.Unit{})
}
