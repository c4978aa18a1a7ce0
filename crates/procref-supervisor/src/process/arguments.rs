//! The arguments and the environment of a process, in the format in which the kernel of macOS returns them.

/// The arguments and the environment of a process, as they were when it executed its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments<'a> {
    count: usize,
    /// The arguments and the variables, with a NUL after each.
    texts: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Parses the answer of the kernel: the number of arguments, the path of the program, NULs, the arguments, and the
    /// environment. A NUL ends each text. An empty text ends the environment.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
        let path = rest.iter().position(|&byte| byte == 0)?;
        let padding = rest[path..].iter().position(|&byte| byte != 0)?;
        let texts = &rest[path + padding..];
        let ends = texts.iter().filter(|&&byte| byte == 0).count();
        (ends >= count).then_some(Self { count, texts })
    }

    /// Returns the arguments. The first one is the name of the program.
    pub fn arguments(self) -> impl Iterator<Item = &'a [u8]> {
        self.texts().take(self.count)
    }

    /// Returns the value of a variable.
    pub fn variable(self, name: &[u8]) -> Option<&'a [u8]> {
        let variables = self.texts().skip(self.count);
        let mut variables = variables.take_while(|text| !text.is_empty());
        variables.find_map(|variable| variable.strip_prefix(name)?.strip_prefix(b"="))
    }

    fn texts(self) -> impl Iterator<Item = &'a [u8]> {
        self.texts.split(|&byte| byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn answer(count: i32, rest: &[u8]) -> Vec<u8> {
        [&count.to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn arguments_and_variables_are_found_in_the_answer_of_the_kernel() {
        let bytes = answer(
            3,
            b"/bin/x\0\0\0\0procref: a\0\0c\0A=1\0AB=2\0\0stack\0HIDDEN=3\0",
        );
        let parsed = Arguments::parse(&bytes).expect("a complete answer");
        let arguments: Vec<&[u8]> = parsed.arguments().collect();
        assert_eq!(arguments, [&b"procref: a"[..], b"", b"c"]);
        assert_eq!(parsed.variable(b"A"), Some(&b"1"[..]));
        assert_eq!(parsed.variable(b"AB"), Some(&b"2"[..]));
        assert_eq!(parsed.variable(b"HIDDEN"), None, "after the environment");
        assert_eq!(parsed.variable(b"c"), None, "an argument");
    }

    #[test]
    fn arguments_of_an_incomplete_answer_are_refused() {
        for bytes in [
            answer(-1, b"/bin/x\0a\0"),
            answer(2, b"/bin/x\0a\0b"),
            answer(i32::MAX, b"/bin/x\0a\0"),
            answer(1, b"/bin/x"),
            answer(1, b"/bin/x\0\0\0"),
            b"\x01\0".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(Arguments::parse(&bytes), None, "{bytes:?}");
        }
    }
}
