//! Which of a process's memory a supervisor can do without.

use procref_supervisor::prepared::Range;

/// A private, writable mapping of this size is no heap: it is the shadow memory of AddressSanitizer, ThreadSanitizer or
/// MemorySanitizer. The smallest of theirs has this size on machines with addresses of 47 bits and more.
const SHADOW_MEMORY: u64 = 1 << 40;

/// The writable memory of its own that a process has according to `/proc/self/maps`, without what is
/// backed by a file (programs' and libraries' data), what follows such (their zeroed data), and
/// what is in `keep`.
///
/// Nothing if a sanitizer is at work: its code, which runs in the supervisor as well, reads shadow memory at every access
/// to memory, and has its own data in further mappings.
pub(super) fn dispensable(maps: &str, keep: &[Range]) -> Vec<Range> {
    let mut dispensable = Vec::new();
    let mut file_end = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(permissions)) = (fields.next().and_then(parse_range), fields.next())
        else {
            continue;
        };
        let name = fields.nth(3).unwrap_or_default();
        if permissions.starts_with("rw-p") && range.length() as u64 >= SHADOW_MEMORY {
            return Vec::new();
        }
        let is_file = name.starts_with('/');
        let follows_file = range.start == file_end;
        if is_file || (follows_file && name.is_empty()) {
            file_end = range.end;
            continue;
        }
        let is_kernels = name.starts_with("[v") || name == "[shadow";
        if permissions.ends_with('p') && !is_kernels {
            push_without(range, keep, &mut dispensable);
        }
    }
    dispensable
}

/// The kernel shows neighbours that are alike as one, so what is kept may lie anywhere in a range.
fn push_without(range: Range, keep: &[Range], pieces: &mut Vec<Range>) {
    let Some((kept, rest)) = keep.split_first() else {
        if range.start < range.end {
            pieces.push(range);
        }
        return;
    };
    let below = Range {
        end: range.end.min(kept.start),
        ..range
    };
    let above = Range {
        start: range.start.max(kept.end),
        ..range
    };
    push_without(below, rest, pieces);
    push_without(above, rest, pieces);
}

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

    fn found(keep: &[Range]) -> Vec<(usize, usize)> {
        let found = dispensable(MAPS, keep);
        found.iter().map(|it| (it.start, it.end)).collect()
    }

    #[test]
    fn heaps_and_stacks_go_and_programs_stay() {
        assert_eq!(
            found(&[]),
            [
                (0x5555_5560_0000, 0x5555_5570_0000),
                (0x7fff_f000_0000, 0x7fff_f400_0000),
                (0x7fff_f600_0000, 0x7fff_f600_2000),
                (0x7fff_fff0_0000, 0x7fff_ffff_f000),
            ]
        );
    }

    #[test]
    fn nothing_is_given_back_beside_shadow_memory() {
        let maps = format!("00007fff8000-10007fff8000 rw-p 00000000 00:00 0\n{MAPS}");
        assert_eq!(dispensable(&maps, &[]), []);
        // What is only reserved says nothing.
        let maps = format!("00007fff8000-10007fff8000 ---p 00000000 00:00 0\n{MAPS}");
        assert!(dispensable(&maps, &[]).len() > found(&[]).len());
    }

    #[test]
    fn shadow_stacks_stay() {
        let maps = "7ffff0000000-7ffff0800000 rw-p 00000000 00:00 0 [shadow stack]\n";
        assert_eq!(dispensable(maps, &[]), []);
    }

    #[test]
    fn what_is_to_be_kept_is_cut_out() {
        let keep = [
            Range::around(0x7fff_f600_0010, 8, 0),
            Range::around(0x7fff_f200_0010, 0x2_0000, 0),
            Range::around(0x7fff_ffff_e123, 99, 0),
        ];
        assert_eq!(
            found(&keep),
            [
                (0x5555_5560_0000, 0x5555_5570_0000),
                (0x7fff_f000_0000, 0x7fff_f200_0000),
                (0x7fff_f203_0000, 0x7fff_f400_0000),
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
            assert_eq!(dispensable(odd, &[]), []);
        }
    }
}
