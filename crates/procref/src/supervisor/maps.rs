//! The memory of a starter that its supervisor can unmap.

use procref_supervisor::prepared::Range;

/// Size from which a private, writable mapping counts as the shadow memory of AddressSanitizer, ThreadSanitizer or
/// MemorySanitizer. Their smallest one has this size on machines with addresses of 47 bits and more. No heap is that
/// large.
const SHADOW_MEMORY: u64 = 1 << 40;

/// Returns the private memory in `/proc/self/maps` that a supervisor does not need.
///
/// The result does not contain memory that is backed by a file (data of programs and libraries), memory right after it
/// (their zeroed data), the kernel's own mappings, and the ranges in `keep`.
///
/// The result is empty if a sanitizer is active. Its code also runs in the supervisor, reads shadow memory at every
/// access to memory, and has its own data in further mappings.
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

/// Adds the pieces of `range` outside of `keep`. The kernel shows adjacent mappings with equal attributes as one range,
/// so a kept range may be anywhere in it.
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
    fn dispensable_memory_is_heaps_and_stacks_without_programs() {
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
    fn dispensable_memory_is_empty_beside_shadow_memory() {
        let maps = format!("00007fff8000-10007fff8000 rw-p 00000000 00:00 0\n{MAPS}");
        assert_eq!(dispensable(&maps, &[]), []);
        // Memory that is only reserved is no shadow memory.
        let maps = format!("00007fff8000-10007fff8000 ---p 00000000 00:00 0\n{MAPS}");
        assert!(dispensable(&maps, &[]).len() > found(&[]).len());
    }

    #[test]
    fn dispensable_memory_has_no_shadow_stacks() {
        let maps = "7ffff0000000-7ffff0800000 rw-p 00000000 00:00 0 [shadow stack]\n";
        assert_eq!(dispensable(maps, &[]), []);
    }

    #[test]
    fn dispensable_memory_has_no_kept_ranges() {
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
    fn dispensable_memory_has_no_unknown_lines() {
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
