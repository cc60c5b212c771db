//! Compiled components as bytes of native code.

use wasmtime::component::Component;

/// Loads code that [`wasmtime::Engine::precompile_component`] has returned.
///
/// `code` must come from a compiler of this program that nothing but this program can have changed: what it contains is
/// executed. It is either what the compiler has just returned, in this process or in a child process that runs the same
/// executable, or content of the cache whose digest is the one that was recorded when it was stored.
///
/// # Errors
/// If the code is for other settings or another version of Wasmtime.
pub(crate) fn load(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // Mapping a file would save some milliseconds for the largest guests, but the process would be killed by a signal if
    // the file were truncated.
    // SAFETY: the callers have native code from a compiler of this program, see above; Wasmtime compares version and
    // settings.
    #[expect(unsafe_code, reason = "running compiled code is the point of a plugin host")]
    unsafe {
        Component::deserialize(engine, code)
    }
}
