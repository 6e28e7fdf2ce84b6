//! seccomp: the system calls that a running daemon makes. Any other one fails with EPERM.

use std::collections::BTreeMap;

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_THREAD, PR_GET_NAME, PR_SET_NAME, PROT_EXEC, PROT_WRITE,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Calls with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Files: state, CRLs, configuration.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_umask,
    libc::SYS_utimensat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    // Threads and time.
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // The other filter answers this one.
    libc::SYS_clone3,
    // About itself.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    // Sockets that are open, and new ones of the kinds below.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_dup3,
];

/// Older forms that libraries still use where they are.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Leaves all threads these calls alone.
///
/// # Errors
/// The kernel has no seccomp filters, or refuses them.
pub(super) fn restrict() -> Result<(), seccompiler::Error> {
    // Its flags are out of a filter's sight: libraries take the older call when there is none.
    let no_clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let gone = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    apply(SeccompFilter::new(no_clone3, SeccompAction::Allow, gone, arch()?)?)?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    apply(SeccompFilter::new(rules()?, refused, SeccompAction::Allow, arch()?)?)
}

fn arch() -> Result<TargetArch, seccompiler::BackendError> {
    std::env::consts::ARCH.try_into()
}

fn apply(filter: SeccompFilter) -> Result<(), seccompiler::Error> {
    apply_filter_all_threads(&BpfProgram::try_from(filter)?)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    let argument = |index: u8, op: SeccompCmpOp, value: i32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, u64::from(value.unsigned_abs()))
    };
    let bits = |mask: i32| SeccompCmpOp::MaskedEq(u64::from(mask.unsigned_abs()));
    let one = |condition| SeccompRule::new(vec![condition]);

    // Threads, no processes.
    rules.insert(libc::SYS_clone, vec![one(argument(0, bits(CLONE_THREAD), CLONE_THREAD)?)?]);
    // No packet sockets, no others but for names, fetching and being asked.
    let families = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
    let of = families.into_iter().map(|family| one(argument(0, SeccompCmpOp::Eq, family)?));
    rules.insert(libc::SYS_socket, of.collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_socketpair, vec![one(argument(0, SeccompCmpOp::Eq, AF_UNIX)?)?]);
    // Nothing that can be written becomes a program.
    rules.insert(libc::SYS_mprotect, vec![one(argument(2, bits(PROT_EXEC), 0)?)?]);
    let either = [PROT_EXEC, PROT_WRITE].into_iter().map(|right| one(argument(2, bits(right), 0)?));
    rules.insert(libc::SYS_mmap, either.collect::<Result<_, _>>()?);
    let names = [PR_SET_NAME, PR_GET_NAME, PR_SET_VMA];
    let named = names.into_iter().map(|option| one(argument(0, SeccompCmpOp::Eq, option)?));
    rules.insert(libc::SYS_prctl, named.collect::<Result<_, _>>()?);
    // Limits are read, not set.
    let reads = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![one(reads)?]);
    // Everything about devices and sockets, but nothing typed into terminals.
    let other = [TIOCSTI, TIOCLINUX].map(|request| argument(1, SeccompCmpOp::Ne, request));
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(other.into_iter().collect::<Result<_, _>>()?)?]);
    Ok(rules)
}

/// Naming of memory, which allocators do. Source: `linux/prctl.h`.
const PR_SET_VMA: i32 = 0x5356_4d41;
/// Input faked on a terminal. Source: `asm-generic/ioctls.h`.
const TIOCSTI: i32 = 0x5412;
/// The console's own orders, pasting among them. Source: `asm-generic/ioctls.h`.
const TIOCLINUX: i32 = 0x541c;
