/* windows.h - what the programs call and MinGW's C library lacks or does otherwise. tokenizer.c
 * includes it on Windows, and only there.
 *
 * Texts are UTF-8 in the programs and UTF-16 in the system: main's words, file names and the words
 * of other programs are converted. Files and standard streams are binary, so that the same input
 * gives the same bytes as elsewhere. The system's own header would define WORD, LONG and other
 * names of ours; so its few functions are declared here.
 */
#include <io.h>
#include <process.h>
#include <signal.h>
#include <wchar.h>

#define IMPORTED __declspec(dllimport) __stdcall
int IMPORTED MultiByteToWideChar(unsigned, unsigned long, const char *, int, wchar_t *, int);
int IMPORTED WideCharToMultiByte(unsigned, unsigned long, const wchar_t *, int, char *, int,
                               const char *, int *);
int IMPORTED MoveFileExW(const wchar_t *, const wchar_t *, unsigned long);
unsigned long IMPORTED GetModuleFileNameW(void *, wchar_t *, unsigned long);
wchar_t *IMPORTED GetCommandLineW(void);
wchar_t **IMPORTED CommandLineToArgvW(const wchar_t *, int *);
int IMPORTED SetConsoleOutputCP(unsigned);
int IMPORTED GetDiskFreeSpaceExW(const wchar_t *, unsigned long long *, void *, void *);
int IMPORTED QueryPerformanceCounter(long long *);
int IMPORTED QueryPerformanceFrequency(long long *each_second);
int IMPORTED GetPhysicallyInstalledSystemMemory(unsigned long long *kilobytes);

enum { UTF8 = 65001, MOVEFILE_REPLACE_EXISTING = 1, MOVEFILE_WRITE_THROUGH = 8, LONGEST_PATH = 4096,
       O_NONBLOCK = 0, O_CLOEXEC = 0, LOCK_EX = 0, LOCK_NB = 0, F_SETFL = 0, SIGHUP = SIGBREAK, SIGQUIT = SIGBREAK, SIGPIPE = SIGABRT,
       _SC_PHYS_PAGES = 1, _SC_PAGESIZE = 2 };

/* A file name in UTF-16; valid until the second call after this one. */
wchar_t *wide(const char *name)
{
    static wchar_t names[2][LONGEST_PATH];
    static int turn;
    wchar_t *to = names[turn ^= 1];
    if (!MultiByteToWideChar(UTF8, 0, name, -1, to, LONGEST_PATH)) *to = 0;
    return to;
}

/* A text in UTF-8, in new memory. */
char *narrow(const wchar_t *text)
{
    int size = WideCharToMultiByte(UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    char *to = calloc(size + 1, 1);
    if (to) WideCharToMultiByte(UTF8, 0, text, -1, to, size, NULL, NULL);
    return to;
}

/* ---- files ---- */

int open_wide(const char *name, int how, int mode)
{
    return _wopen(wide(name), how | O_BINARY | O_NOINHERIT, mode & (S_IREAD | S_IWRITE));
}

/* Replace a file in one step; rename of the C library refuses if `to` exists. */
int replace_file(const char *from, const char *to)
{
    if (MoveFileExW(wide(from), wide(to), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
        return 0;
    errno = EACCES;
    return -1;
}

/* May a file be used so? A program is found without its .exe. */
int access_wide(const char *name, int mode)
{
    char program[LONGEST_PATH];
    snprintf(program, sizeof program, "%s.exe", name);
    return _waccess(wide(mode == X_OK ? program : name), mode & ~X_OK);
}

/* A file without a name, which is gone once it is closed. */
FILE *unnamed_file(void)
{
    wchar_t *name = _wtempnam(NULL, L"gpt");
    return name ? _wfopen(name, L"w+bTD") : NULL;
}

/* The space on the disk of a folder that this user may fill. */
struct statvfs { unsigned long long f_bavail, f_frsize; };
int statvfs(const char *folder, struct statvfs *disk)
{
    disk->f_frsize = 1;
    return GetDiskFreeSpaceExW(wide(folder), &disk->f_bavail, NULL, NULL) ? 0 : -1;
}

#define flock(fd, how) 0                             /* a folder cannot be opened, so not locked */
#define open(name, how, ...) open_wide(name, how, __VA_ARGS__ + 0)
#define rename(from, to) replace_file(from, to)
#define access(name, mode) access_wide(name, mode)
#define unlink(name) _wunlink(wide(name))
#define mkdir(name, mode) _wmkdir(wide(name))
#define tmpfile() unnamed_file()
#define fsync(fd) _commit(fd)
#define fcntl(fd, command, value) 0
#define fopen(name, how) _wfopen(wide(name), wide(how))
#define _stat64(name, status) _wstat64(wide(name), status)      /* which stat is a name of */

/* ---- texts ---- */

void *memmem(const void *in, size_t size, const void *what, size_t length)
{
    const char *at = in, *end = at + size;
    for (; (size_t)(end - at) >= length; at++)
        if (!memcmp(at, what, length)) return (void *)at;
    return NULL;
}

char *strsep(char **rest, const char *ends)
{
    char *word = *rest, *end = word ? word + strcspn(word, ends) : NULL;
    if (word) *rest = *end ? *end = 0, end + 1 : NULL;
    return word;
}

ssize_t getline(char **line, size_t *capacity, FILE *file)
{
    size_t size = 0;
    for (int c = 0; c != '\n' && (c = getc(file)) != EOF; (*line)[size++] = (char)c)
        if (size + 1 >= *capacity && !(*line = realloc(*line, *capacity = 2 * size + 128)))
            return -1;
    if (size) (*line)[size] = 0;
    return size ? (ssize_t)size : -1;
}

/* ---- the system and other programs ---- */

/* The time since some fixed moment, without a library of threads. */
int performance_counter(struct timespec *t)
{
    long long count, each_second;
    QueryPerformanceCounter(&count), QueryPerformanceFrequency(&each_second);
    t->tv_sec = count / each_second;
    t->tv_nsec = (long)(count % each_second * 1e9 / each_second);
    return 0;
}
#define clock_gettime(clock, t) performance_counter(t)

/* Of the two values that the programs ask for, only the product has a meaning here. */
double sysconf(int name)
{
    unsigned long long kilobytes = 1ull << 30;
    if (name == _SC_PAGESIZE) return 1024;
    GetPhysicallyInstalledSystemMemory(&kilobytes);
    return (double)kilobytes;
}

/* The path of this program, whatever link is asked for, with / between folders. */
ssize_t readlink(const char *link, char *path, size_t size)
{
    wchar_t name[LONGEST_PATH];
    char *text = GetModuleFileNameW(NULL, name, LONGEST_PATH) ? narrow(name) : NULL;
    (void)link;
    if (!text) return -1;
    snprintf(path, size, "%s", text);
    free(text);
    for (char *c = path; (c = strchr(c, '\\'));) *c = '/';
    return (ssize_t)strlen(path);
}

/* Start a program with these words, and wait for its end if `how` is _P_WAIT. Programs split their
 * command line themselves: a word stands in quotes, and \ before a quote (and before other \ that
 * lead to one) is doubled. Returns what _wspawnvp does. */
intptr_t start(int how, const char *program, char *const *words)
{
    int count = 0;
    while (words[count]) count++;
    wchar_t **quoted = calloc(count + 1, sizeof *quoted), path[LONGEST_PATH];
    for (int i = 0; i < count; i++) {
        wchar_t *to = calloc(2 * strlen(words[i]) + 3, sizeof *to);
        quoted[i] = to, *to++ = '"';
        char *text = malloc(strlen(words[i]) * 2 + 2), *c = text;
        for (const char *from = words[i]; ; *c++ = *from++) {
            size_t slashes = strspn(from, "\\");
            char after = from[slashes];
            if (after == '"' || !after) memset(c, '\\', slashes), c += slashes;
            memcpy(c, from, slashes), c += slashes, from += slashes;
            if (after == '"') *c++ = '\\';
            if (!after) break;
        }
        *c = 0;
        int size = MultiByteToWideChar(UTF8, 0, text, -1, to, (int)(2 * strlen(words[i]) + 2));
        to[size - 1] = '"', to[size] = 0;
        free(text);
    }
    wcscpy(path, wide(program));
    for (wchar_t *c = path; *c; c++) if (*c == '/') *c = '\\';
    intptr_t result = _wspawnvp(how, path, (const wchar_t *const *)quoted);
    for (int i = 0; i < count; i++) free(quoted[i]);
    free(quoted);
    return result;
}

int posix_spawnp(pid_t *child, const char *program, void *files, void *how, char *const *words,
                 char **environment)
{
    intptr_t handle = start(_P_NOWAIT, program, words);
    (void)files, (void)how, (void)environment;
    *child = (pid_t)handle;
    return handle == -1 ? errno : 0;
}

pid_t waitpid(pid_t child, int *status, int how)
{
    (void)how;
    return (pid_t)_cwait(status, (intptr_t)child, 0);
}
#define WIFEXITED(status) ((status) >= 0)
#define WEXITSTATUS(status) (status)

/* A program cannot be replaced by another here: wait for the other, and end as it ends. */
void execvp_and_exit(const char *program, char *const *words)
{
    intptr_t status = start(_P_WAIT, program, words);
    if (status != -1) exit((int)status);
}
#define execvp(program, words) execvp_and_exit(program, words)
#define execv(program, words) free(program)         /* to begin again is not worth a process */
#define setenv(name, value, replace) _putenv_s(name, value)

/* main of all programs: their own is named program_main. */
int program_main(int argc, char **argv);
int main(void)
{
    int count;
    wchar_t **words = CommandLineToArgvW(GetCommandLineW(), &count);
    char **argv = calloc(count + 1, sizeof *argv);
    for (int i = 0; i < count; i++) argv[i] = narrow(words[i]);
    _fmode = O_BINARY;
    for (int fd = 0; fd < 3; fd++) _setmode(fd, O_BINARY);
    SetConsoleOutputCP(UTF8);
    return program_main(count, argv);
}
#define main program_main
