// Package export_yardarm_plugin_request_auth admits callers that present a token of the list.
package export_yardarm_plugin_request_auth

import (
	request "{{name}}/bindings/yardarm_plugin_request"
	auth "{{name}}/bindings/yardarm_plugin_request_auth"
	shared "{{name}}/bindings/yardarm_plugin_shared"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Authenticate decides about a request.
func Authenticate(request *request.Request) wit.Result[auth.Decision, types.PluginError] {
	defer memory.Collect()
	defer request.Drop()
	if shared.Version() == 0 {
		// There was no list yet. SDKs come back, which they would not do if they were denied as forbidden.
		return denied(auth.DenialClassUnavailable)
	}
	for _, token := range request.Header("x-token") {
		if shared.Get(string(token)).IsSome() {
			identity := types.Identity{Principal: "visitor"}
			admission := auth.Admission{Identity: wit.Some(identity)}
			return wit.Ok[auth.Decision, types.PluginError](auth.MakeDecisionAllow(admission))
		}
	}
	return denied(auth.DenialClassForbidden)
}

func denied(class auth.DenialClass) wit.Result[auth.Decision, types.PluginError] {
	denial := auth.Denial{Class: class, Reason: wit.None[string](), RetryAfter: wit.None[uint32]()}
	return wit.Ok[auth.Decision, types.PluginError](auth.MakeDecisionDeny(denial))
}
