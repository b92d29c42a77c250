"""The sandbox's filter of system calls: what a program that computes may ask of the kernel, as BPF
instructions for seccomp(2). What is not listed is refused.
"""

# name:number on x86_64:number on aarch64, where "-" stands for a call that processor lacks
_TABLE = """
read:0:63 write:1:64 open:2:- openat:257:56 openat2:437:437 close:3:57 close_range:436:436
creat:85:- lseek:8:62 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69
pwritev:296:70 preadv2:327:286 pwritev2:328:287 stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79
statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:- readlinkat:267:78
statfs:137:43 fstatfs:138:44 getcwd:79:17 chdir:80:49 fchdir:81:50 umask:95:166 getdents:78:-
getdents64:217:61 mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:-
renameat:264:38 renameat2:316:276 link:86:- linkat:265:37 symlink:88:- symlinkat:266:36
truncate:76:45 ftruncate:77:46 fallocate:285:47 fadvise64:221:223 fsync:74:82 fdatasync:75:83
flock:73:32 copy_file_range:326:285 sendfile:40:71 dup:32:23 dup2:33:- dup3:292:24 pipe:22:-
pipe2:293:59 fcntl:72:25 ioctl:16:29
poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20
epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:-
eventfd2:290:19 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87
socketpair:53:199 sendto:44:206 recvfrom:45:207 shutdown:48:210 getsockopt:55:209 getsockname:51:204
getpeername:52:205
mmap:9:222 munmap:11:215 mremap:25:216 mprotect:10:226 madvise:28:233 msync:26:227 brk:12:214
clone:56:220 exit:60:93 exit_group:231:94 wait4:61:260 waitid:247:95 futex:202:98
futex_waitv:449:449 set_robust_list:273:99 set_tid_address:218:96 rseq:334:293 arch_prctl:158:-
prctl:157:167 sched_yield:24:124
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136
rt_sigsuspend:130:133 rt_sigtimedwait:128:137 sigaltstack:131:132 restart_syscall:219:128 pause:34:-
kill:62:129 tgkill:234:131 alarm:37:- getitimer:36:102 setitimer:38:103 nanosleep:35:101
clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:-
times:100:153
getpid:39:172 getppid:110:173 gettid:186:178 getpgrp:111:- getpgid:121:155 getsid:124:156
getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150
getgroups:115:158 getrusage:98:165 getrlimit:97:163 prlimit64:302:261 getpriority:140:141
sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120
sched_get_priority_max:146:125 sched_get_priority_min:147:126 getcpu:309:168 uname:63:160
sysinfo:99:179 getrandom:318:278
"""
CALLS = {
    name: {"x86_64": x86_64, "aarch64": aarch64}
    for name, x86_64, aarch64 in (entry.split(":") for entry in _TABLE.split())
}
# audit number of a processor; first and last call on extended attributes
PROCESSORS = {"x86_64": (0xC000003E, 188, 199), "aarch64": (0xC00000B7, 5, 16)}
OWN_PID = -1  # replaced by the process that installs the filter
CLONE_THREAD = 0x00010000
# calls whose argument (counted from 0) must be one of these
ONLY = {
    "kill": (0, [OWN_PID]),
    "tgkill": (0, [OWN_PID]),
    "prlimit64": (0, [0, OWN_PID]),
    # Unix sockets in pairs, as event loops wake themselves; nothing is sent to an address
    "socketpair": (0, [1]),
    "sendto": (4, [0]),
    # terminal or not, its size, bytes waiting, blocking or not, inherited or not
    "ioctl": (1, [0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451]),
    # descriptors' copies, flags and locks; no signals, leases, notices or seals
    "fcntl": (1, [*range(8), 36, 37, 38, 1030]),
    # the name of a thread
    "prctl": (0, [15, 16]),
}
Instruction = tuple[int, int, int, int]
# A = data[k]; A == k; A >= k; A & k; return k
LOAD, EQUAL, ABOVE, MASKED, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS, ENOTSUP = 1, 38, 95


def instructions(machine: str) -> list[Instruction] | None:
    """The filter for a processor by its name in `platform.machine()`; None for one not known."""
    if machine not in PROCESSORS:
        return None
    audit, first, last = PROCESSORS[machine]
    rules = [
        *((LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)),
        # the C library and shutil do without these when they hear that there are none
        *((ABOVE, 0, 2, first), (ABOVE, 1, 0, last + 1), (RETURN, 0, 0, ERRNO | ENOTSUP)),
    ]
    for name, numbers in CALLS.items():
        if numbers[machine] != "-":
            then = _condition(name)
            rules += [(EQUAL, 0, len(then), int(numbers[machine])), *then]
    # to calls of 2019 and later there are older ones, which the C library tries next
    return [*rules, (ABOVE, 0, 1, 424), (RETURN, 0, 0, ERRNO | ENOSYS), _REFUSE]


_REFUSE, _ALLOW = (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)


def _condition(name: str) -> list[Instruction]:
    """What decides on a call once its number is known."""
    if name == "clone":
        return [(LOAD, 0, 0, 16), (MASKED, 1, 0, CLONE_THREAD), _REFUSE, _ALLOW]
    if name not in ONLY:
        return [_ALLOW]
    argument, values = ONLY[name]
    low, several = 16 + 8 * argument, len(values)
    return [
        *((LOAD, 0, 0, low + 4), (EQUAL, 0, several + 1, 0), (LOAD, 0, 0, low)),
        *((EQUAL, several - place, 0, value) for place, value in enumerate(values)),
        *(_REFUSE, _ALLOW),
    ]
