(call $nothing)
