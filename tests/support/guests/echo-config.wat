(call $allow (global.get $config) (global.get $config_length))
