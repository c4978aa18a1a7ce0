//! Which of a process's memory a supervisor can do without.

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Range {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Range {
    fn has(self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// The writable memory of its own that a process has according to `/proc/self/maps`, without what is
/// backed by a file (programs' and libraries' data), what follows such (their zeroed data), and
/// what holds one of the addresses in `keep`.
///
/// From the mapping that has `arguments` only what is below it is named: there the command line is.
pub(super) fn dispensable(maps: &str, keep: &[usize], arguments: usize) -> Vec<Range> {
    let mut dispensable = Vec::new();
    let mut file_end = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(permissions)) = (fields.next().and_then(parse_range), fields.next())
        else {
            continue;
        };
        let name = fields.nth(3).unwrap_or_default();
        let is_file = name.starts_with('/');
        let follows_file = range.start == file_end;
        if is_file || (follows_file && name.is_empty()) {
            file_end = range.end;
            continue;
        }
        let is_own = permissions.ends_with('p') && !name.starts_with("[v");
        if !is_own || keep.iter().any(|&address| range.has(address)) {
            continue;
        }
        let range = if range.has(arguments) {
            Range {
                end: arguments & !(PAGE - 1),
                ..range
            }
        } else {
            range
        };
        if range.start < range.end {
            dispensable.push(range);
        }
    }
    dispensable
}

/// A multiple of every page size that Linux has.
pub(super) const PAGE: usize = 64 << 10;

fn parse_range(field: &str) -> Option<Range> {
    let (start, end) = field.split_once('-')?;
    Some(Range {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
555555554000-555555556000 r--p 00000000 fe:00 1234 /usr/bin/client
555555556000-555555558000 r-xp 00002000 fe:00 1234 /usr/bin/client
555555558000-55555555a000 rw-p 00004000 fe:00 1234 /usr/bin/client
55555555a000-55555555b000 rw-p 00000000 00:00 0
555555600000-555555700000 rw-p 00000000 00:00 0 [heap]
7ffff0000000-7ffff4000000 rw-p 00000000 00:00 0
7ffff5000000-7ffff5010000 rw-s 00000000 00:05 9 /dev/shm/shared (deleted)
7ffff6000000-7ffff6002000 rw-p 00000000 00:00 0
7ffff7ffa000-7ffff7ffe000 r--p 00000000 00:00 0 [vvar]
7ffff7ffe000-7ffff7fff000 r-xp 00000000 00:00 0 [vdso]
7ffffff00000-7ffffffff000 rw-p 00000000 00:00 0 [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
";

    #[test]
    fn heaps_and_stacks_go_and_programs_stay() {
        let found = dispensable(MAPS, &[0x7fff_f600_0010], 0x7fff_ffff_e123);
        let found: Vec<_> = found.iter().map(|it| (it.start, it.end)).collect();
        assert_eq!(
            found,
            [
                (0x5555_5560_0000, 0x5555_5570_0000),
                (0x7fff_f000_0000, 0x7fff_f400_0000),
                (0x7fff_fff0_0000, 0x7fff_ffff_0000),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_stays() {
        for odd in [
            "",
            "nonsense",
            "1-2",
            "zz-aa rw-p 0 0 0",
            "\n\n",
            "-- -- --",
        ] {
            assert_eq!(dispensable(odd, &[], 0), []);
        }
    }
}
