/* A disk of our own between a program and the file system, for where nobody may mount one: loaded before libc (LD_PRELOAD), it
 * watches what is done to the files below one folder. It can count room and say that there is none, stand still, let operations
 * fail, and write down in order what was written, named and synced. See disk.rs, which compiles and steers it.
 *
 * KYMO_DISK_FOLDER   the folder, absolute and without links
 * KYMO_DISK_CONTROL  a file of at least 72 bytes, nine numbers in the machine's order, see `struct control`
 * KYMO_DISK_RECORD   where to write down what is done; nothing is written down without
 * KYMO_DISK_FAILS    below this folder of it operations fail, and are counted; all of it without
 *
 * Changes are made one at a time, under a lock, and written down under the same: the record has them in the order in which they
 * happened. Only syncs run beside them: one covers what was written down before it began. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096ull
#define FILES (1u << 16)

struct control {
    volatile uint64_t quota;      /* bytes of room; 0: as much as the file system has */
    volatile uint64_t frozen;     /* not 0: whoever changes something waits */
    volatile uint64_t fail_from;  /* operations with these numbers fail, the first is 1; 0: none */
    volatile uint64_t fail_until;
    volatile uint64_t fail_errno; /* 0: half a write, told as such */
    volatile uint64_t operations; /* so many were there */
    volatile uint64_t used;       /* bytes of room that are taken */
    volatile uint64_t failed;     /* operations that failed because they were told to, or because there was no room */
    volatile uint64_t filler;     /* bytes that others take */
};

/* What is known of a file or folder. */
struct file {
    dev_t dev;
    ino_t ino;
    uint32_t id; /* 0: free */
    uint64_t size;
    int fails; /* operations on it are among those that may be told to */
    uint64_t bits; /* pages that fit into `taken` */
    uint8_t *taken;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_len;
static char fails[PATH_MAX];
static struct control nothing, *control = &nothing;
static int record = -1;
static struct file *files;
static uint32_t next_id = 1;
static uint64_t next_sync = 1;

/* ---- the record: kind, id, two numbers, and bytes */

struct entry {
    uint8_t kind;
    uint8_t flag;
    uint16_t unused;
    uint32_t id;
    uint64_t a;
    uint64_t b;
};

static void put(const void *bytes, size_t len) {
    while (len > 0) {
        long done = syscall(SYS_write, record, bytes, len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            abort(); /* a record with a hole in it would prove nothing */
        bytes = (const char *)bytes + done;
        len -= done;
    }
}

static void note(char kind, int flag, uint32_t id, uint64_t a, uint64_t b, const void *more, size_t len) {
    if (record < 0)
        return;
    int kept = errno;
    struct entry entry = {.kind = kind, .flag = flag, .id = id, .a = a, .b = b};
    struct entry *whole = malloc(sizeof entry + len);
    *whole = entry;
    if (len)
        memcpy(whole + 1, more, len);
    put(whole, sizeof entry + len);
    free(whole);
    errno = kept;
}

/* ---- files by device and inode */

static struct file *slot(dev_t dev, ino_t ino) {
    if (!files)
        files = calloc(FILES, sizeof *files);
    uint32_t at = (ino * 0x9E3779B97F4A7C15ull) >> 48;
    struct file *open = NULL;
    for (uint32_t i = 0; i < FILES; i++, at = (at + 1) % FILES) {
        struct file *file = &files[at];
        if (file->id && file->dev == dev && file->ino == ino)
            return file;
        if (!file->id && !open)
            open = file;
        if (!file->id && !file->ino)
            return open; /* never used: it can be no further on */
    }
    return open;
}

static struct file *known(int fd) {
    struct stat st;
    if (!folder_len || fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return NULL;
    struct file *file = slot(st.st_dev, st.st_ino);
    return file && file->id ? file : NULL;
}

static uint64_t pages(struct file *file, uint64_t from, uint64_t to, int take) {
    uint64_t first = from / PAGE, last = (to + PAGE - 1) / PAGE, fresh = 0;
    if (last > file->bits) {
        uint64_t bits = (last * 2 + 63) / 64 * 64;
        file->taken = realloc(file->taken, bits / 8);
        memset(file->taken + file->bits / 8, 0, bits / 8 - file->bits / 8);
        file->bits = bits;
    }
    for (uint64_t page = first; page < last; page++) {
        if (file->taken[page / 8] & 1 << page % 8)
            continue;
        fresh++;
        if (take)
            file->taken[page / 8] |= 1 << page % 8;
    }
    if (take)
        control->used += fresh * PAGE;
    return fresh;
}

static void let_go(struct file *file, uint64_t from) {
    for (uint64_t page = (from + PAGE - 1) / PAGE; page < file->bits; page++)
        if (file->taken[page / 8] & 1 << page % 8) {
            file->taken[page / 8] &= ~(1 << page % 8);
            control->used -= PAGE;
        }
}

static void forget(struct file *file) {
    let_go(file, 0);
    free(file->taken);
    file->taken = NULL;
    file->bits = 0;
    file->id = 0; /* dev and ino stay: the search goes on past it */
}

static const char *below(const char *path) {
    return path[folder_len] ? path + folder_len + 1 : "";
}

/* May operations on this path fail? */
static int may_fail(const char *path) {
    size_t len = strlen(fails);
    const char *name = below(path);
    return !len || (!strncmp(name, fails, len) && (name[len] == '/' || !name[len]));
}

static struct file *learn(const struct stat *st, const char *path, int made) {
    struct file *file = slot(st->st_dev, st->st_ino);
    if (!file)
        abort(); /* more files than any test has */
    if (file->id)
        return file;
    *file = (struct file){.dev = st->st_dev, .ino = st->st_ino, .id = next_id++, .size = st->st_size, .fails = may_fail(path)};
    const char *name = below(path);
    note(S_ISDIR(st->st_mode) ? 'd' : 'f', made, file->id, st->st_size, strlen(name), name, strlen(name));
    return file;
}

/* A change of length that nobody told us of. */
static void look_at_length(int fd, struct file *file) {
    struct stat st;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size != file->size) {
        file->size = st.st_size;
        note('l', 0, file->id, file->size, 0, NULL, 0);
    }
}

static void look_at_content(const char *path, struct file *file) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    off_t at = 0, end;
    while (fd >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0 && (end = lseek(fd, at, SEEK_HOLE)) > at) {
        pages(file, at, end, 1);
        at = end;
    }
    if (fd >= 0)
        syscall(SYS_close, fd);
}

static int found(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)ftw;
    if (type == FTW_F || type == FTW_D) {
        struct file *file = learn(st, path, 0);
        if (type == FTW_F)
            look_at_content(path, file);
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("KYMO_DISK_FOLDER"), *steer = getenv("KYMO_DISK_CONTROL");
    const char *log = getenv("KYMO_DISK_RECORD");
    if (!name || !steer)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, steer, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    control = map;
    control->used = 0;
    if (log && (record = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
        abort();
    strncpy(folder, name, sizeof folder - 1);
    if (getenv("KYMO_DISK_FAILS"))
        strncpy(fails, getenv("KYMO_DISK_FAILS"), sizeof fails - 1);
    folder_len = strlen(folder);
    nftw(folder, found, 32, FTW_PHYS);
}

/* ---- what every change goes through */

/* The absolute path of what lies in the folder; NULL when it lies elsewhere. */
static const char *inside(int at, const char *path, char *into) {
    if (!folder_len || !path)
        return NULL;
    if (path[0] == '/') {
        if (strlen(path) >= PATH_MAX)
            return NULL;
        strcpy(into, path);
    } else {
        char link[64];
        if (at == AT_FDCWD)
            strcpy(link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t len = readlink(link, into, PATH_MAX - 1);
        if (len < 0 || len + strlen(path) + 2 > PATH_MAX)
            return NULL;
        snprintf(into + len, PATH_MAX - len, "/%s", path);
    }
    int is_inside = !strncmp(into, folder, folder_len) && (into[folder_len] == '/' || !into[folder_len]);
    return is_inside ? into : NULL;
}

static void leave(void) {
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
}

/* Does it lie in the folder, and where operations may fail (2)? */
static int is_ours(int fd) {
    pthread_mutex_lock(&lock);
    struct file *file = known(fd);
    int is = file ? 1 + file->fails : 0;
    leave();
    return is;
}

enum { WRITES = 2 };

/* Takes the lock; 0 when the operation is to fail, which it may only if it counts. */
static int enter(int counts) {
    for (;;) {
        while (control->frozen)
            usleep(1000);
        pthread_mutex_lock(&lock);
        if (!control->frozen)
            break;
        pthread_mutex_unlock(&lock);
    }
    uint64_t number = counts ? ++control->operations : 0;
    /* Only writes can be done by half. */
    int would = counts == WRITES || control->fail_errno;
    if (counts && would && control->fail_from && number >= control->fail_from && number <= control->fail_until) {
        control->failed++;
        errno = control->fail_errno;
        return 0;
    }
    return 1;
}

/* Pages that are free. */
static uint64_t room(void) {
    uint64_t taken = control->used + control->filler;
    return control->quota > taken ? (control->quota - taken) / PAGE : 0;
}

static int has_room(struct file *file, uint64_t from, uint64_t to) {
    if (!control->quota)
        return 1;
    uint64_t fresh = pages(file, from, to, 0);
    if (fresh <= room())
        return 1;
    control->failed++;
    errno = ENOSPC;
    return 0;
}

/* ---- opening */

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    const char *own = inside(at, path, whole);
    if (!own)
        return syscall(SYS_openat, at, path, flags, mode);
    struct stat st;
    if (!(flags & (O_CREAT | O_TRUNC))) {
        /* Under the lock: a rename in between may take the name from what was opened. */
        pthread_mutex_lock(&lock);
        int fd = syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0 && !fstat(fd, &st))
            learn(&st, own, 0);
        leave();
        return fd;
    }
    if (!enter(may_fail(own))) {
        leave();
        return -1;
    }
    int is_new = lstat(own, &st) != 0;
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &st)) {
        struct file *file = learn(&st, own, is_new);
        look_at_length(fd, file);
        if (flags & O_TRUNC)
            let_go(file, 0);
    }
    leave();
    return fd;
}

static mode_t mode_of(int flags, va_list args) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
}

#define OPEN(NAME)                                     \
    int NAME(const char *path, int flags, ...) {       \
        va_list args;                                  \
        va_start(args, flags);                         \
        mode_t mode = mode_of(flags, args);            \
        va_end(args);                                  \
        return open_at(AT_FDCWD, path, flags, mode);   \
    }
#define OPENAT(NAME)                                   \
    int NAME(int at, const char *path, int flags, ...) { \
        va_list args;                                  \
        va_start(args, flags);                         \
        mode_t mode = mode_of(flags, args);            \
        va_end(args);                                  \
        return open_at(at, path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* ---- writing */

static void wrote(struct file *file, uint64_t at, const char *bytes, size_t len) {
    pages(file, at, at + len, 1);
    if (at + len > file->size)
        file->size = at + len;
    int is_zero = 1;
    for (size_t i = 0; is_zero && i < len; i++)
        is_zero = !bytes[i];
    note(is_zero ? 'z' : 'w', 0, file->id, at, len, bytes, is_zero ? 0 : len);
}

/* `at` < 0: where the file stands. */
static ssize_t write_at(int fd, const void *bytes, size_t len, off_t at) {
    int ours = is_ours(fd);
    if (!ours)
        return at < 0 ? syscall(SYS_write, fd, bytes, len) : syscall(SYS_pwrite64, fd, bytes, len, at);
    int told = !enter(ours > 1 ? WRITES : 0), refused = told;
    int why = errno;
    struct file *file = known(fd);
    if (file) {
        look_at_length(fd, file);
        int appends = fcntl(fd, F_GETFL) & O_APPEND;
        uint64_t from = appends ? file->size : at < 0 ? (uint64_t)lseek(fd, 0, SEEK_CUR) : (uint64_t)at;
        if (told)
            len /= 2; /* some of it gets there */
        if (!refused && !has_room(file, from, from + len)) {
            refused = 1;
            why = ENOSPC;
            /* As much as still fits, in whole pages. */
            uint64_t end = ((from + PAGE - 1) / PAGE + room()) * PAGE;
            len = end > from && end - from < len ? end - from : 0;
            if (len && !has_room(file, from, from + len))
                len = 0;
        }
        ssize_t done = 0;
        if (len)
            done = at < 0 ? syscall(SYS_write, fd, bytes, len) : syscall(SYS_pwrite64, fd, bytes, len, at);
        if (done > 0)
            wrote(file, from, bytes, done);
        leave();
        if (!refused || (done > 0 && (!told || !why)))
            return done;
        errno = why;
        return -1;
    }
    leave();
    return at < 0 ? syscall(SYS_write, fd, bytes, len) : syscall(SYS_pwrite64, fd, bytes, len, at);
}

ssize_t write(int fd, const void *bytes, size_t len) { return write_at(fd, bytes, len, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return write_at(fd, bytes, len, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) { return write_at(fd, bytes, len, at); }

/* Short writes are allowed: the first part is enough. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_ours(fd))
        return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len)
            return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

/* Whoever copies falls back to reading and writing. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    if (!is_ours(out))
        return syscall(SYS_copy_file_range, in, from, out, to, len, flags);
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t len) {
    if (!is_ours(out))
        return syscall(SYS_sendfile, out, in, at, len);
    errno = EINVAL;
    return -1;
}

static int cut(int fd, off_t len) {
    int ours = is_ours(fd);
    if (!ours)
        return syscall(SYS_ftruncate, fd, len);
    int result = -1;
    if (enter(ours > 1)) {
        struct file *file = known(fd);
        result = syscall(SYS_ftruncate, fd, len);
        if (!result && file) {
            look_at_length(fd, file);
            let_go(file, len);
        }
    }
    leave();
    return result;
}
int ftruncate(int fd, off_t len) { return cut(fd, len); }
int ftruncate64(int fd, off64_t len) { return cut(fd, len); }

static int allocate(int fd, int mode, off_t at, off_t len) {
    int ours = is_ours(fd);
    if (!ours)
        return syscall(SYS_fallocate, fd, mode, at, len);
    int result = -1;
    if (enter(ours > 1)) {
        struct file *file = known(fd);
        if (file && has_room(file, at, at + len)) {
            result = syscall(SYS_fallocate, fd, mode, at, len);
            if (!result) {
                pages(file, at, at + len, 1);
                look_at_length(fd, file);
            }
        }
    }
    leave();
    return result;
}
int fallocate(int fd, int mode, off_t at, off_t len) { return allocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return allocate(fd, mode, at, len); }

/* ---- syncs */

static int sync_of(int fd, long call) {
    pthread_mutex_lock(&lock);
    struct file *file = known(fd);
    uint32_t id = file ? file->id : 0;
    int counts = file && file->fails;
    pthread_mutex_unlock(&lock);
    if (!id)
        return syscall(call, fd);
    uint64_t number = 0;
    int goes_on = enter(counts);
    if (goes_on) {
        if ((file = known(fd)))
            look_at_length(fd, file);
        number = next_sync++;
        note('b', 0, id, number, 0, NULL, 0);
    }
    leave();
    if (!goes_on)
        return -1;
    int result = syscall(call, fd);
    if (!result) {
        pthread_mutex_lock(&lock);
        note('e', 0, id, number, 0, NULL, 0);
        leave();
    }
    return result;
}
int fsync(int fd) { return sync_of(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_of(fd, SYS_fdatasync); }

/* ---- names */

/* What a name stands for goes away with it, unless it has others. */
static struct file *last_name(const char *path) {
    struct stat st;
    if (lstat(path, &st) || (!S_ISDIR(st.st_mode) && st.st_nlink > 1))
        return NULL;
    struct file *file = slot(st.st_dev, st.st_ino);
    return file && file->id ? file : NULL;
}

static int rename_at(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char a[PATH_MAX], b[PATH_MAX];
    const char *own_from = inside(from_at, from, a), *own_to = inside(to_at, to, b);
    if (!own_from || !own_to)
        return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    int result = -1;
    if (enter(may_fail(own_to))) {
        struct file *gone = last_name(own_to);
        result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
        if (!result) {
            if (gone)
                forget(gone);
            const char *x = below(own_from), *y = below(own_to);
            size_t first = strlen(x), second = strlen(y);
            char both[2 * PATH_MAX];
            memcpy(both, x, first);
            memcpy(both + first, y, second);
            note('r', 0, 0, first, second, both, first + second);
        }
    }
    leave();
    return result;
}
int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return rename_at(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return rename_at(a, from, b, to, flags); }

static int unlink_at(int at, const char *path, int flags) {
    char whole[PATH_MAX];
    const char *own = inside(at, path, whole);
    if (!own)
        return syscall(SYS_unlinkat, at, path, flags);
    int result = -1;
    if (enter(may_fail(own))) {
        struct file *gone = last_name(own);
        result = syscall(SYS_unlinkat, at, path, flags);
        if (!result) {
            if (gone)
                forget(gone);
            const char *name = below(own);
            note('u', 0, 0, 0, strlen(name), name, strlen(name));
        }
    }
    leave();
    return result;
}
int unlink(const char *path) { return unlink_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlink_at(at, path, flags); }
int rmdir(const char *path) { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR); }

static int mkdir_at(int at, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    const char *own = inside(at, path, whole);
    if (!own)
        return syscall(SYS_mkdirat, at, path, mode);
    int result = -1;
    if (enter(may_fail(own))) {
        struct stat st;
        result = syscall(SYS_mkdirat, at, path, mode);
        if (!result && !lstat(own, &st))
            learn(&st, own, 1);
    }
    leave();
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdir_at(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return mkdir_at(at, path, mode); }

/* No program here links files; one that began to would not be understood. */
static int link_at(int a, const char *from, int b, const char *to, int flags) {
    char whole[PATH_MAX];
    if (inside(b, to, whole)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return syscall(SYS_linkat, a, from, b, to, flags);
}
int link(const char *from, const char *to) { return link_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return link_at(a, from, b, to, flags); }

/* ---- how much room there is */

#define STAT(NAME, TYPE, REAL)                                       \
    static int NAME##_at(int fd, const char *path, TYPE *st) {       \
        char whole[PATH_MAX];                                        \
        int own = path ? inside(AT_FDCWD, path, whole) != NULL : is_ours(fd); \
        struct statfs real;                                          \
        long result = path ? syscall(SYS_statfs, path, &real) : syscall(SYS_fstatfs, fd, &real); \
        if (result)                                                  \
            return -1;                                               \
        memset(st, 0, sizeof *st);                                   \
        REAL;                                                        \
        if (own && control->quota) {                                 \
            st->f_bsize = st->f_frsize = PAGE;                       \
            st->f_blocks = control->quota / PAGE;                    \
            st->f_bfree = st->f_bavail = room();                     \
        }                                                            \
        return 0;                                                    \
    }
#define AS_STATFS memcpy(st, &real, sizeof real)
#define AS_STATVFS                                                   \
    st->f_bsize = real.f_bsize;                                      \
    st->f_frsize = real.f_frsize ? real.f_frsize : real.f_bsize;     \
    st->f_blocks = real.f_blocks;                                    \
    st->f_bfree = real.f_bfree;                                      \
    st->f_bavail = real.f_bavail;                                    \
    st->f_files = real.f_files;                                      \
    st->f_ffree = st->f_favail = real.f_ffree;                       \
    st->f_namemax = real.f_namelen

STAT(fs, struct statfs, AS_STATFS)
STAT(vfs, struct statvfs, AS_STATVFS)
int statfs(const char *path, struct statfs *st) { return fs_at(-1, path, st); }
int fstatfs(int fd, struct statfs *st) { return fs_at(fd, NULL, st); }
int statvfs(const char *path, struct statvfs *st) { return vfs_at(-1, path, st); }
int fstatvfs(int fd, struct statvfs *st) { return vfs_at(fd, NULL, st); }
/* On 64 bits these are the same. */
int statfs64(const char *path, struct statfs64 *st) { return fs_at(-1, path, (struct statfs *)st); }
int fstatfs64(int fd, struct statfs64 *st) { return fs_at(fd, NULL, (struct statfs *)st); }
int statvfs64(const char *path, struct statvfs64 *st) { return vfs_at(-1, path, (struct statvfs *)st); }
int fstatvfs64(int fd, struct statvfs64 *st) { return vfs_at(fd, NULL, (struct statvfs *)st); }
