//! The functions of WASI that fragments can call, of 0.2 and of 0.3.

/// Marker, interface, name in core modules, type.
pub(super) type WasiImport = (&'static str, &'static str, &'static str, &'static str);

/// Functions of WASI, imported if a fragment calls them.
pub(super) const IMPORTS: [WasiImport; 17] = [
    ("$wasi_now", "wasi:clocks/wall-clock@0.2.0", "now", "(param i32)"),
    ("$wasi_random", "wasi:random/random@0.2.0", "get-random-u64", "(result i64)"),
    ("$wasi_environment", "wasi:cli/environment@0.2.0", "get-environment", "(param i32)"),
    ("$wasi_arguments", "wasi:cli/environment@0.2.0", "get-arguments", "(param i32)"),
    ("$wasi_folders", "wasi:filesystem/preopens@0.2.0", "get-directories", "(param i32)"),
    ("$wasi3_now", "wasi:clocks/system-clock@0.3.0", "now", "(param i32)"),
    ("$wasi3_mark", "wasi:clocks/monotonic-clock@0.3.0", "now", "(result i64)"),
    ("$wasi3_wait", "wasi:clocks/monotonic-clock@0.3.0", "wait-for", "(param i64)"),
    ("$wasi3_random", "wasi:random/random@0.3.0", "get-random-u64", "(result i64)"),
    ("$wasi3_environment", "wasi:cli/environment@0.3.0", "get-environment", "(param i32)"),
    ("$wasi3_arguments", "wasi:cli/environment@0.3.0", "get-arguments", "(param i32)"),
    ("$wasi3_folders", "wasi:filesystem/preopens@0.3.0", "get-directories", "(param i32)"),
    ("$wasi3_stdout", "wasi:cli/stdout@0.3.0", "write-via-stream", "(param i32) (result i32)"),
    ("$stdout_stream", "wasi:cli/stdout@0.3.0", "[stream-new-0]write-via-stream", "(result i64)"),
    (
        "$stdout_write",
        "wasi:cli/stdout@0.3.0",
        "[async-lower][stream-write-0]write-via-stream",
        "(param i32 i32 i32) (result i32)",
    ),
    ("$stdout_close", "wasi:cli/stdout@0.3.0", "[stream-drop-writable-0]write-via-stream", "(param i32)"),
    ("$wasi3_resolve", "wasi:sockets/ip-name-lookup@0.3.0", "poke", "(result i32)"),
];

/// The declarations of these functions.
pub(super) const PACKAGES: [&str; 9] = [
    "package wasi:clocks@0.2.0; interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } \
     now: func() -> datetime; }",
    "package wasi:random@0.2.0; interface random { get-random-u64: func() -> u64; }",
    "package wasi:cli@0.2.0; interface environment { get-environment: func() -> list<tuple<string, string>>; \
     get-arguments: func() -> list<string>; }",
    "package wasi:filesystem@0.2.0; interface types { resource descriptor; } interface preopens { \
     use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }",
    "package wasi:clocks@0.3.0; interface types { type duration = u64; } interface system-clock { \
     record instant { seconds: s64, nanoseconds: u32 } now: func() -> instant; } interface monotonic-clock { \
     use types.{duration}; type mark = u64; now: func() -> mark; wait-for: async func(how-long: duration); }",
    "package wasi:random@0.3.0; interface random { get-random-u64: func() -> u64; }",
    "package wasi:cli@0.3.0; interface environment { get-environment: func() -> list<tuple<string, string>>; \
     get-arguments: func() -> list<string>; } interface types { enum error-code { io, illegal-byte-sequence, pipe } } \
     interface stdout { use types.{error-code}; \
     write-via-stream: func(data: stream<u8>) -> future<result<_, error-code>>; }",
    "package wasi:filesystem@0.3.0; interface types { resource descriptor; } interface preopens { \
     use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }",
    "package wasi:sockets@0.3.0; interface ip-name-lookup { poke: func() -> u32; }",
];
