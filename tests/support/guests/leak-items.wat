(data (i32.const 2112) "flagplain")
;; body
;; Leaks the first changed item and one by its key. Together with `leak-request.wat`.
(call $item_set_get (local.get $set) (i32.const 0) (i32.const 512))
(call $leak_option (i32.const 512))
(call $item_set_other (local.get $set) (i32.const 2112) (i32.const 4) (i32.const 2116) (i32.const 5) (i32.const 512))
(call $leak_option (i32.const 512))
(call $nothing)
