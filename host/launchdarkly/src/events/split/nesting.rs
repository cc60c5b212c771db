//! Open brackets of a JSON text.

/// Deepest nesting of an event. Go's decoder, which upstream uses, accepts one more level for the array.
pub(crate) const MAX_DEPTH: usize = 9_999;

/// Open brackets of an element.
#[derive(Default)]
pub(super) struct Nesting {
    open: Vec<u8>,
    braces: usize,
    brackets: usize,
    /// Open ones beyond [`MAX_DEPTH`].
    beyond: usize,
}

impl Nesting {
    pub(super) fn clear(&mut self) {
        self.open.clear();
        (self.braces, self.brackets, self.beyond) = (0, 0, 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens a bracket; `false` if that is too deep.
    pub(super) fn open(&mut self, bracket: u8) -> bool {
        if self.open.len() >= MAX_DEPTH {
            self.beyond += 1;
            return false;
        }
        self.open.push(bracket);
        *self.count(bracket) += 1;
        true
    }

    /// Closes the innermost bracket of the kind and all that are open within it. A bracket without a counterpart is an
    /// error within the element.
    pub(super) fn close(&mut self, closing: u8) {
        if self.beyond > 0 {
            self.beyond -= 1;
            return;
        }
        let bracket = if closing == b'}' { b'{' } else { b'[' };
        if *self.count(bracket) == 0 {
            return;
        }
        while let Some(open) = self.open.pop() {
            *self.count(open) -= 1;
            if open == bracket {
                return;
            }
        }
    }

    fn count(&mut self, bracket: u8) -> &mut usize {
        if bracket == b'{' { &mut self.braces } else { &mut self.brackets }
    }
}
