//! The memory of a starter that its supervisor can unmap.

use procref_supervisor::prepared::Range;

use super::objects::Needed;

/// Size from which a private, writable mapping counts as the shadow memory of AddressSanitizer, ThreadSanitizer or
/// MemorySanitizer. Their smallest one has this size on machines with addresses of 47 bits and more. No heap is that
/// large.
const SHADOW_MEMORY: u64 = 1 << 40;

/// Returns the private memory in `/proc/self/maps` that a supervisor does not need.
///
/// A range may contain gaps between mappings, so that one system call unmaps everything between two mappings that are
/// kept. The child has one thread, so nothing is mapped into the gaps.
///
/// The result does not contain the programs and libraries that are `needed`, with the memory right after each of them
/// (its zeroed data), shared memory, the kernel's own mappings, and the ranges in `keep`. If it is unknown which
/// libraries are needed, the result contains no memory that is backed by a file.
///
/// The result is empty if a sanitizer is active. Its code also runs in the supervisor, reads shadow memory at every
/// access to memory, and has its own data in further mappings. The result is also empty if a line is unknown, or if the
/// lines are not in the order of their addresses, because then a gap may be a mapping.
pub(super) fn dispensable(maps: &str, keep: &[Range], needed: Option<&Needed>) -> Vec<Range> {
    let Some(mappings) = maps.lines().map(Mapping::parse).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    if !mappings.is_sorted_by(|one, next| one.range.end <= next.range.start) {
        return Vec::new();
    }
    let needed = needed.and_then(|needed| needed_files(&mappings, needed));
    let mut dispensable = Vec::new();
    let mut file_end = 0;
    let mut kept_end = 0;
    for mapping in &mappings {
        let Mapping {
            range, permissions, ..
        } = *mapping;
        if permissions.starts_with("rw-p") && range.length() as u64 >= SHADOW_MEMORY {
            return Vec::new();
        }
        let is_private = permissions.ends_with('p');
        let is_kept_file = match &needed {
            Some(needed) => !is_private || needed.contains(&mapping.file),
            None => true,
        };
        let follows_file = range.start == file_end;
        if (mapping.is_file() && is_kept_file) || (follows_file && mapping.name.is_empty()) {
            (file_end, kept_end) = (range.end, range.end);
            continue;
        }
        let is_kernels = mapping.name.starts_with("[v") || mapping.name == "[shadow";
        if is_private && !is_kernels {
            push_without(range, keep, kept_end, &mut dispensable);
        } else {
            kept_end = range.end;
        }
    }
    dispensable
}

/// A line of `/proc/self/maps`.
struct Mapping<'a> {
    range: Range,
    permissions: &'a str,
    /// Device and inode. A deleted file keeps them.
    file: [&'a str; 2],
    /// The first word of the path.
    name: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let range = parse_range(fields.next()?).filter(|range| range.start < range.end)?;
        let permissions = fields.next()?;
        let file = [fields.nth(1), fields.next()].map(Option::unwrap_or_default);
        let name = fields.next().unwrap_or_default();
        Some(Self {
            range,
            permissions,
            file,
            name,
        })
    }

    fn is_file(&self) -> bool {
        self.name.starts_with('/')
    }
}

/// Returns device and inode of the needed programs and libraries.
///
/// Returns `None` if another library replaces a function of the C library (`LD_PRELOAD`). Such a library may call any
/// other library.
fn needed_files<'a>(mappings: &[Mapping<'a>], needed: &Needed) -> Option<Vec<[&'a str; 2]>> {
    let find = |address: usize| {
        let contains = |it: &&Mapping<'_>| it.range.start <= address && address < it.range.end;
        mappings.iter().find(contains).filter(|it| it.is_file())
    };
    let objects = needed.objects.into_iter().filter_map(find);
    let mut files: Vec<_> = objects.map(|it| it.file).collect();
    for &function in &needed.functions {
        let library = find(function)?;
        // In glibc before 2.34, some functions are in a library of their own.
        let is_threads = || {
            let name = library.name.rsplit('/').next();
            name.is_some_and(|name| name.starts_with("libpthread"))
        };
        if !files.contains(&library.file) {
            if !is_threads() {
                return None;
            }
            files.push(library.file);
        }
    }
    Some(files)
}

/// Adds the pieces of `range` outside of `keep`. The kernel shows adjacent mappings with equal attributes as one range,
/// so a kept range may be anywhere in it. Nothing is kept between `kept_end` and `range`, except the ranges in `keep`.
fn push_without(range: Range, keep: &[Range], kept_end: usize, pieces: &mut Vec<Range>) {
    let mut rest = range;
    while rest.start < rest.end {
        // The first kept range that ends after the start of the rest.
        let kept = keep.iter().filter(|kept| kept.start < kept.end);
        let next = kept
            .filter(|kept| kept.end > rest.start)
            .min_by_key(|kept| kept.start);
        let end = next.map_or(rest.end, |kept| kept.start.min(rest.end));
        if rest.start < end {
            push(
                Range {
                    start: rest.start,
                    end,
                },
                keep,
                kept_end,
                pieces,
            );
        }
        rest.start = next.map_or(rest.end, |kept| kept.end.max(end));
    }
}

/// Adds a piece. If nothing is kept between this piece and the last one, extends the last one.
fn push(piece: Range, keep: &[Range], kept_end: usize, pieces: &mut Vec<Range>) {
    if let Some(last) = pieces.last_mut() {
        let is_kept = |kept: &Range| kept.start < piece.start && kept.end > last.end;
        if last.end >= kept_end && !keep.iter().any(is_kept) {
            last.end = piece.end;
            return;
        }
    }
    pieces.push(piece);
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
        let found = dispensable(MAPS, keep, None);
        found.iter().map(|it| (it.start, it.end)).collect()
    }

    /// The mappings of an interpreter that has loaded procref, with the libraries of both.
    const INTERPRETER: &str = "\
555555554000-555555a54000 r-xp 00000000 fe:00 11 /usr/bin/python3
555555a54000-555555a84000 rw-p 00500000 fe:00 11 /usr/bin/python3
555555a84000-555555ac4000 rw-p 00000000 00:00 0
7ffff1000000-7ffff1010000 r--p 00000000 fe:00 12 /usr/lib/locale/C.utf8/LC_CTYPE
7ffff2000000-7ffff2200000 rw-s 00000000 00:05 13 /dev/shm/shared
7ffff3000000-7ffff3100000 r-xp 00000000 fe:00 14 /opt/procref.so (deleted)
7ffff3100000-7ffff3110000 rw-p 00100000 fe:00 14 /opt/procref.so (deleted)
7ffff3110000-7ffff3111000 rw-p 00000000 00:00 0
7ffff4000000-7ffff4100000 r-xp 00000000 fe:00 15 /usr/lib/libc.so.6
7ffff4100000-7ffff4110000 rw-p 00100000 fe:00 15 /usr/lib/libc.so.6
7ffff4110000-7ffff4118000 rw-p 00000000 00:00 0
7ffff5000000-7ffff5020000 r-xp 00000000 fe:00 16 /usr/lib/libpthread-2.31.so
7ffff6000000-7ffff6100000 r-xp 00000000 fe:01 14 /usr/lib/libcrypto.so.3
7ffff6100000-7ffff6200000 rw-p 00100000 fe:01 14 /usr/lib/libcrypto.so.3
7ffff7fc0000-7ffff7fe0000 r-xp 00000000 fe:00 17 /usr/lib/ld-linux-x86-64.so.2
";

    fn found_beside(functions: &[usize]) -> Vec<(usize, usize)> {
        let needed = Needed {
            objects: [0x7fff_f300_1000, 0x7fff_f400_1000, 0x7fff_f7fc_0000],
            functions: functions.to_vec(),
        };
        let found = dispensable(INTERPRETER, &[], Some(&needed));
        found.iter().map(|it| (it.start, it.end)).collect()
    }

    #[test]
    fn dispensable_memory_contains_foreign_programs_and_libraries() {
        // The interpreter and its locale, up to the shared memory.
        let foreign = (0x5555_5555_4000, 0x7fff_f101_0000);
        let crypto = (0x7fff_f600_0000, 0x7fff_f620_0000);
        let with_threads = (0x7fff_f500_0000, 0x7fff_f620_0000);
        assert_eq!(found_beside(&[0x7fff_f400_2000]), [foreign, with_threads]);
        // A function is in a library that belongs to the C library.
        assert_eq!(
            found_beside(&[0x7fff_f400_2000, 0x7fff_f500_0008]),
            [foreign, crypto]
        );
    }

    /// Such a library may call any other one, so all of them stay.
    #[test]
    fn dispensable_memory_has_no_files_if_a_library_replaces_functions() {
        assert_eq!(found_beside(&[0x7fff_f600_0008]), []);
        // The function is in no known mapping.
        assert_eq!(found_beside(&[8]), []);
    }

    #[test]
    fn dispensable_memory_is_heaps_and_stacks_without_programs() {
        assert_eq!(
            found(&[]),
            [
                (0x5555_5560_0000, 0x7fff_f400_0000),
                (0x7fff_f600_0000, 0x7fff_f600_2000),
                (0x7fff_fff0_0000, 0x7fff_ffff_f000),
            ]
        );
    }

    #[test]
    fn dispensable_memory_is_empty_beside_shadow_memory() {
        let maps = format!("00007fff8000-10007fff8000 rw-p 00000000 00:00 0\n{MAPS}");
        assert_eq!(dispensable(&maps, &[], None), []);
        // Memory that is only reserved is no shadow memory.
        let maps = format!("00007fff8000-10007fff8000 ---p 00000000 00:00 0\n{MAPS}");
        assert!(dispensable(&maps, &[], None).len() > found(&[]).len());
    }

    #[test]
    fn dispensable_memory_has_no_shadow_stacks() {
        let maps = "7ffff0000000-7ffff0800000 rw-p 00000000 00:00 0 [shadow stack]\n";
        assert_eq!(dispensable(maps, &[], None), []);
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
                (0x5555_5560_0000, 0x7fff_f200_0000),
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
            assert_eq!(dispensable(odd, &[], None), []);
            // It may be a mapping that is needed, between two that are not.
            let between = format!("1000-2000 rw-p 0 0 0\n{odd}\n5000-6000 rw-p 0 0 0");
            assert_eq!(dispensable(&between, &[], None), [], "{odd:?}");
        }
    }

    #[test]
    fn dispensable_memory_is_empty_without_the_order_of_addresses() {
        for maps in [
            "5000-6000 rw-p 0 0 0\n1000-2000 rw-p 0 0 0",
            "1000-3000 rw-p 0 0 0\n2000-4000 rw-s 0 0 0",
            "2000-1000 rw-p 0 0 0",
            "1000-1000 rw-p 0 0 0",
        ] {
            assert_eq!(dispensable(maps, &[], None), [], "{maps}");
        }
    }
}
