// The sizes, offsets and numbers that procref uses on macOS, checked against Apple's headers. The Rust sources assert the
// same numbers. `scripts/macos.sh` compiles this file for both processors.

#include <fcntl.h>
#include <libproc.h>
#include <stddef.h>
#include <mach/mach_time.h>
#include <sys/acl.h>
#include <sys/event.h>
#include <sys/proc.h>
#include <sys/mount.h>
#include <sys/proc_info.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <sys/un.h>
#include <unistd.h>

#define SAME(left, right) _Static_assert((left) == (right), #left " == " #right)

// procref-supervisor/src/kqueue.rs
SAME(sizeof(struct kevent), 32);
SAME(EVFILT_PROC, -5);
SAME(EVFILT_VNODE, -4);
SAME(EVFILT_SIGNAL, -6);
SAME(NOTE_EXIT, 0x80000000u);
SAME(NOTE_EXITSTATUS, 0x04000000);
SAME(NOTE_WRITE, 2);
SAME(NOTE_EXTEND, 4);

// procref-supervisor/src/process/macos.rs
SAME(sizeof(struct proc_bsdinfo), 136);
SAME(offsetof(struct proc_bsdinfo, pbi_start_tvsec), 120);
SAME(offsetof(struct proc_bsdinfo, pbi_start_tvusec), 128);
SAME(offsetof(struct proc_bsdinfo, pbi_status), 4);
SAME(offsetof(struct proc_bsdinfo, pbi_pgid), 100);
SAME(sizeof(struct proc_fdinfo), 8);
SAME(PROC_PIDTBSDINFO, 3);
SAME(PROC_PIDLISTFDS, 1);
SAME(PROC_FLAG_INEXIT, 4);
SAME(PROC_FLAG_EXEC, 0x4000);
SAME(SSTOP, 4);
SAME(SZOMB, 5);
SAME(sizeof(struct kinfo_proc), 648);
SAME(offsetof(struct kinfo_proc, kp_proc.p_starttime.tv_sec), 0);
SAME(offsetof(struct kinfo_proc, kp_proc.p_starttime.tv_usec), 8);
SAME(offsetof(struct kinfo_proc, kp_proc.p_flag), 32);
SAME(offsetof(struct kinfo_proc, kp_proc.p_stat), 36);
SAME(offsetof(struct kinfo_proc, kp_eproc.e_pgid), 564);
SAME(P_WEXIT, 0x2000);
SAME(P_EXEC, 0x4000);

// procref/src/kernel/counted/sys/macos.rs
SAME(sizeof(struct flock), 24);
SAME(offsetof(struct flock, l_pid), 16);
SAME(offsetof(struct flock, l_type), 20);
SAME(F_OFD_SETLK, 90);
SAME(F_WRLCK, 3);
SAME(SOL_LOCAL, 0);
SAME(LOCAL_PEERPID, 2);
SAME(sizeof(((struct sockaddr_un *)0)->sun_path), 104);

// procref-supervisor/src/process/macos.rs, procref/src/process/macos/list.rs, procref/src/runtime/macos.rs
SAME(CTL_KERN, 1);
SAME(KERN_PROC, 14);
SAME(KERN_PROC_PID, 1);
SAME(KERN_PROCARGS2, 49);
SAME(PROC_UID_ONLY, 4);
SAME(PROC_PIDTHREADID64INFO, 15);
SAME(sizeof(struct proc_threadinfo), 112);

// procref/src/namespace/macos.rs
SAME(_CS_DARWIN_USER_TEMP_DIR, 65537);

// procref-config/src/files/find/unix/macos.rs
SAME(ACL_TYPE_EXTENDED, 0x100);
SAME(ACL_FIRST_ENTRY, 0);
SAME(ACL_NEXT_ENTRY, -1);
SAME(ACL_EXTENDED_DENY, 2);

// procref-cli/src/commands/ps/monitor/usage/macos.rs, process_tree/macos.rs
SAME(RUSAGE_INFO_V2, 2);
SAME(sizeof(struct rusage_info_v2), 160);
SAME(offsetof(struct rusage_info_v2, ri_user_time), 16);
SAME(offsetof(struct rusage_info_v2, ri_phys_footprint), 72);
SAME(offsetof(struct rusage_info_v2, ri_child_user_time), 96);
SAME(sizeof(struct mach_timebase_info), 8);
SAME(offsetof(struct mach_timebase_info, denom), 4);
SAME(PROC_PPID_ONLY, 6);

// procref-cli/src/prestart/data/unix/macos.rs, doctor/unix/macos.rs
SAME(SYNC_VOLUME_FULLSYNC, 1);
SAME(SYNC_VOLUME_WAIT, 2);
SAME(sizeof(((struct statfs *)0)->f_fstypename), 16);
