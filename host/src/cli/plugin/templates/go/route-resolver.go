// Package export_yardarm_plugin_route_resolver chooses the environment of the tenant that a proxy names.
package export_yardarm_plugin_route_resolver

import (
	request "{{name}}/bindings/yardarm_plugin_request"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Resolve returns the name of an environment.
func Resolve(request *request.Request) wit.Result[wit.Option[string], types.PluginError] {
	defer memory.Collect()
	defer request.Drop()
	environment := wit.None[string]()
	if tenants := request.Header("x-tenant"); len(tenants) > 0 {
		environment = wit.Some(config.Settings.Prefix + string(tenants[0]))
	}
	return wit.Ok[wit.Option[string], types.PluginError](environment)
}
