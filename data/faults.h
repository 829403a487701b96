/* data/faults.h - lets the n-th call of one kind fail, for data/torture.sh.
 *
 * Each program is built with -include data/faults.h. Here every call that can fail gets a macro of
 * its own name: at call FAULT_AT of kind FAULT_KIND (environment variables) it reports an error, as
 * a full disk or an exhausted memory would, and appends its place in the source to FAULT_LOG.
 * Kinds: allocate, open, read, write, flush, sync, rename, close. Writing to standard error and
 * what a library calls inside are not counted. After a failing write or flush the buffered bytes
 * are lost, after a failing sync or close of a file all its bytes: a program that does not look
 * leaves a damaged file. A file that gets its name before its last bytes are synced ends the
 * program with status 98, since no error and no kill -9, only a loss of power would show it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Returns whether this call of the kind is to fail, with `error` as the reason. */
static inline int fault(const char *kind, int error, const char *file, int line)
{
    static const char *wanted;
    static long calls, at;
    if (!wanted) {
        wanted = getenv("FAULT_KIND") ? getenv("FAULT_KIND") : "";
        at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    }
    if (strcmp(wanted, kind) || __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) != at) return 0;
    FILE *log = fopen(getenv("FAULT_LOG"), "a");
    fprintf(log, "%s %s:%d\n", kind, file, line);
    fclose(log);
    errno = error;
    return 1;
}

/* The same for a stream, which remembers the error (the bit is glibc's), as after a real one. */
static inline int fault_in(FILE *f, const char *kind, int error, const char *file, int line)
{
    if (f == stderr || !fault(kind, error, file, line)) return 0;
    __fpurge(f);
    f->_flags |= 0x20;
    return 1;
}

/* Close, then report that the bytes did not reach the disk. */
static inline int fault_close(FILE *f, const char *file, int line)
{
    int bad = fault("close", EIO, file, line);
    if (bad) ftruncate(fileno(f), 0);
    int result = fclose(f);
    if (bad) errno = EIO;
    return bad ? EOF : result;
}

static struct stat synced[64];                       /* the files that were synced last */

/* Syncing is only recorded: it costs time, and nothing here would show it. */
static inline int fault_sync(int fd, const char *file, int line)
{
    static int calls;
    int bad = fault("sync", EIO, file, line);
    if (bad) ftruncate(fd, 0), errno = EIO;
    else fstat(fd, &synced[calls++ % 64]);
    return -bad;
}

static inline int fault_rename(const char *from, const char *to, const char *file, int line)
{
    struct stat now = {0};
    int known = 0;
    if (fault("rename", EACCES, file, line)) return -1;
    stat(from, &now);
    for (int i = 0; i < 64; i++)
        known |= synced[i].st_ino == now.st_ino && synced[i].st_size == now.st_size;
    if (!known) fprintf(stderr, "ERROR: %s:%d: %s is not synced\n", file, line, from), _exit(98);
    return rename(from, to);
}

#define FAULT(kind, error, result, call) (fault(kind, error, __FILE__, __LINE__) ? (result) : call)
#define FAULT_IN(f, kind, error, result, call) \
    (fault_in(f, kind, error, __FILE__, __LINE__) ? (result) : call)

#define malloc(n)           FAULT("allocate", ENOMEM, NULL, malloc(n))
#define calloc(n, size)     FAULT("allocate", ENOMEM, NULL, calloc(n, size))
#define realloc(p, n)       FAULT("allocate", ENOMEM, NULL, realloc(p, n))
#define vasprintf(p, f, a)  FAULT("allocate", ENOMEM, -1, vasprintf(p, f, a))
#define open_memstream(p, n) FAULT("allocate", ENOMEM, NULL, open_memstream(p, n))
#define open(...)           FAULT("open", EACCES, -1, open(__VA_ARGS__))
#define fopen(path, mode)   FAULT("open", EACCES, NULL, fopen(path, mode))
#define fdopen(fd, mode)    FAULT("open", ENOMEM, NULL, fdopen(fd, mode))
#define mkdir(path, mode)   FAULT("open", EACCES, -1, mkdir(path, mode))
#define fread(p, s, n, f)   FAULT_IN(f, "read", EIO, 0, fread(p, s, n, f))
#define getline(p, n, f)    FAULT_IN(f, "read", EIO, -1, getline(p, n, f))
#define fwrite(p, s, n, f)  FAULT_IN(f, "write", ENOSPC, 0, fwrite(p, s, n, f))
#define fprintf(f, ...)     FAULT_IN(f, "write", ENOSPC, -1, fprintf(f, __VA_ARGS__))
#define printf(...)         FAULT_IN(stdout, "write", ENOSPC, -1, printf(__VA_ARGS__))
#define fputs(s, f)         FAULT_IN(f, "write", ENOSPC, EOF, fputs(s, f))
#define fputc(c, f)         FAULT_IN(f, "write", ENOSPC, EOF, fputc(c, f))
#define puts(s)             FAULT_IN(stdout, "write", ENOSPC, EOF, puts(s))
#define putchar(c)          FAULT_IN(stdout, "write", ENOSPC, EOF, putchar(c))
#define fflush(f)           FAULT_IN(f, "flush", ENOSPC, EOF, fflush(f))
#define fsync(fd)           fault_sync(fd, __FILE__, __LINE__)
#define rename(from, to)    fault_rename(from, to, __FILE__, __LINE__)
#define unlink(path)        FAULT("rename", EACCES, -1, unlink(path))
#define close(fd)           FAULT("close", EIO, -1, close(fd))
#define fclose(f)           fault_close(f, __FILE__, __LINE__)
