//! Text that is formatted without allocation.

use core::fmt;

/// Text of at most `N` bytes. A longer text is truncated.
pub(crate) struct TextBuffer<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> TextBuffer<N> {
    /// Returns the text of these arguments.
    pub(crate) fn format(arguments: fmt::Arguments) -> Self {
        let mut buffer = Self {
            bytes: [0; N],
            length: 0,
        };
        // The only error is that the text is truncated.
        let _ = fmt::write(&mut buffer, arguments);
        buffer
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Returns the text, followed by zeros.
    pub(crate) fn padded(&self) -> &[u8; N] {
        &self.bytes
    }
}

impl<const N: usize> fmt::Write for TextBuffer<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let length = text.len().min(room.len());
        for (place, byte) in room.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        self.length += length;
        if length == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}
