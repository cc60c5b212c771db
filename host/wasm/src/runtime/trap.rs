//! From an error of the WebAssembly machine to a [`CallError`].

use wasmtime::Trap;

use super::deadline::DeadlinePassed;
use super::guest::MemoryExceeded;
use super::interface::v0_1::ReadTooMuch;
use crate::vocabulary::{CallError, clean};

impl CallError {
    /// Classifies an error of Wasmtime.
    pub(crate) fn of(error: &wasmtime::Error) -> Self {
        let text = || clean(&error.root_cause().to_string());
        if error.downcast_ref::<DeadlinePassed>().is_some() {
            return Self::Deadline;
        }
        if let Some(exceeded) = error.downcast_ref::<MemoryExceeded>() {
            return Self::Memory(exceeded.to_string());
        }
        if error.downcast_ref::<ReadTooMuch>().is_some() {
            return Self::InputTooLarge { size: 32 << 20 };
        }
        if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
            return Self::PoolExhausted;
        }
        if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
            return Self::Trap { kind: "exit", text: text() };
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            let kind = match trap {
                Trap::Interrupt => return Self::Deadline,
                Trap::UnreachableCodeReached => "unreachable",
                Trap::MemoryOutOfBounds | Trap::HeapMisaligned | Trap::ArrayOutOfBounds => "out-of-bounds",
                Trap::StackOverflow => "stack",
                Trap::IntegerDivisionByZero | Trap::IntegerOverflow | Trap::BadConversionToInteger => "divide",
                Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => "indirect",
                _ => "other",
            };
            return Self::Trap { kind, text: text() };
        }
        // The remaining errors occur when the host reads a reply: text that is not UTF-8, pointers out of bounds.
        Self::OutputInvalid(text())
    }
}
