// Package config has the configuration, as under `plugin.config` in the binding file.
package config

// Settings are set before the first call.
var Settings struct {
	{{go_setting}}
}
