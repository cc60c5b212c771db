// Package export_yardarm_plugin_request_auth admits callers that present a token.
package export_yardarm_plugin_request_auth

import (
	request "{{name}}/bindings/yardarm_plugin_request"
	auth "{{name}}/bindings/yardarm_plugin_request_auth"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Authenticate decides about a request.
func Authenticate(request *request.Request) wit.Result[auth.Decision, types.PluginError] {
	defer memory.Collect()
	defer request.Drop()
	for _, token := range request.Header("x-token") {
		if string(token) == config.Settings.Token {
			identity := types.Identity{Principal: "visitor"}
			admission := auth.Admission{Identity: wit.Some(identity)}
			return wit.Ok[auth.Decision, types.PluginError](auth.MakeDecisionAllow(admission))
		}
	}
	denial := auth.Denial{
		Class:      auth.DenialClassForbidden,
		Reason:     wit.None[string](),
		RetryAfter: wit.None[uint32](),
	}
	return wit.Ok[auth.Decision, types.PluginError](auth.MakeDecisionDeny(denial))
}
