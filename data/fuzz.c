/* fuzz.c - random files for every parser: each ends in a result or in one clear line.
 *
 *     make fuzz SECONDS=60                          libFuzzer, a minute for each parser
 *     gcc -DREPLAY -g -fsanitize=address,undefined data/fuzz.c -o fuzz -lm
 *     FUZZ=examples ./fuzz FILE ...                 give kept inputs to one parser again
 *     ./fuzz                                        write seeds to FOLDER (default /dev/shm/fuzz)
 *
 * FUZZ names a row of the table `targets`. The sanitizers find what C forbids; beside them an input
 * fails if the parser holds more than 8 bytes for each of its own and FIXED more, if it prints a
 * control character, or if a page has an element that only a program could want.
 * Where a parser reads several files, lines "====" divide the input into them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sanitizer/asan_interface.h>

enum { FIXED = 40 << 20, OPEN = 64 };
#define NO_ASAN __attribute__((no_sanitize("address")))

/* ---- memory, files and exit of a parser: what it leaves behind is freed after each input ---- */

typedef struct Block { struct Block *next, *before; size_t size, unused; } Block;

static Block blocks = {&blocks, &blocks, 0, 0};       /* a ring of all that is held */
static size_t held, most;                             /* bytes now; the most allowed */
static FILE *opened[OPEN];
static jmp_buf ended;

void finding(const char *what)
{
    dprintf(2, "FOUND: %s\n", what);
    abort();
}

/* free. The head of a block is poisoned, so that reading before an array is found as well. */
NO_ASAN void held_free(void *p)
{
    if (!p) return;
    Block *b = (Block *)p - 1;
    b->before->next = b->next, b->next->before = b->before;
    held -= b->size;
    ASAN_UNPOISON_MEMORY_REGION(b, sizeof *b);
    free(b);
}

NO_ASAN void *held_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > most - held)
        finding("more memory than 8 times the input");
    Block *b = calloc(1, sizeof *b + bytes);
    *b = (Block){blocks.next, &blocks, bytes, 0};
    b->next->before = blocks.next = b;
    held += bytes;
    ASAN_POISON_MEMORY_REGION(b, sizeof *b);
    return b + 1;
}

/* realloc, which always moves, so that pointers to the old place are found. */
NO_ASAN void *held_realloc(void *p, size_t size)
{
    size_t old = p ? ((Block *)p - 1)->size : 0;
    held -= old;                                      /* only one of the two counts */
    char *new = held_calloc(1, size);
    held += old;
    if (p) memcpy(new, p, old < size ? old : size);
    held_free(p);
    return new;
}

int held_vasprintf(char **text, const char *form, va_list args)
{
    char *first;
    int length = vasprintf(&first, form, args);
    *text = memcpy(held_calloc(1, length + 1), first, length + 1);
    free(first);
    return length;
}

FILE *held_fdopen(int fd, const char *mode)
{
    for (int i = 0; i < OPEN; i++)
        if (!opened[i]) return opened[i] = fdopen(fd, mode);
    finding("too many files are open");
    return NULL;
}

int held_fclose(FILE *file)
{
    for (int i = 0; i < OPEN; i++) if (opened[i] == file) opened[i] = NULL;
    return fclose(file);
}

__attribute__((noreturn)) void held_exit(int status) { (void)status, longjmp(ended, 1); }

#define calloc held_calloc
#define realloc held_realloc
#define free held_free
#define vasprintf held_vasprintf
#define fdopen held_fdopen
#define fclose held_fclose
#define exit held_exit
#define fsync(fd) ((void)(fd), 0)
#define NO_MAIN_PREPARE
#include "../prepare.c"
#undef calloc
#undef realloc
#undef free
#undef vasprintf
#undef fdopen
#undef fclose
#undef exit

/* ---- the parsers: each gets the input as the files 0, 1, ... of a folder ---- */

static char folder[100];
static const Config tiny = {8, 264, 1, 2, 8, 264};
static const char sentence[] = "the cat, the hat and the other cat";

/* The path of a file of the folder, under its number or the name that a parser looks for. */
char *at(const char *name) { return format("%s/%s", folder, name); }

/* The number i as a name for a part, and then with the right name beside it. */
char *named(const char *part, const char *name)
{
    rename(at(part), at(name));
    return at(name);
}

Tokenizer *words_new(void) { return tokenizer_train(sentence, sizeof sentence - 1, 264); }

Model *tiny_model(void)
{
    Model *m = model_new(tiny);
    model_initialize(m, 1);
    return m;
}

void fuzz_model(void) { model_read(at("0")), model_read_as(at("0"), 1); }
void fuzz_tokenizer(void) { tokenizer_read(at("0")); }
void fuzz_adapter(void) { adapter_read(tiny_model(), at("0")); }
void fuzz_config(void) { named("0", "config.json"), config_complete(tiny, at("m.safetensors")); }
void fuzz_peft_config(void) { peft_config(at("0")); }
void fuzz_tokenizer_json(void) { tokenizer_json_read(at("0")); }
void fuzz_vocabulary(void) { vocabulary_read(at("0"), at("1")); }

/* A token file is packed into rows, and one epoch of these is read. */
void fuzz_tokens(void)
{
    int n;
    rename(at("0"), at("d_train.bin"));
    Tokens t = tokens_read(at("d"), "train", 1000);
    if (t.examples) items_read(&t, 0, &n);
    DataLoader f = loader_new(&t, 8, 0, 1, 1, 0);
    Batch b = batch_new(2, 8);
    for (int i = 0; i < 4; i++) loader_batch(&f, &b);
}

/* 0: a token file, 1: the start of a state whose checksum is made right, or (2) a whole one. */
void fuzz_state(void)
{
    size_t size;
    Progress p = {0};
    Model *m = tiny_model();
    rename(at("0"), at("d_train.bin"));
    Tokens t = tokens_read(at("d"), "train", 1000);
    DataLoader f = loader_new(&t, 8, 0, 1, 1, 0);
    model_prepare(m, TRAINING, 1, 8, 0);
    char *bytes = read_file(at("1"), &size);
    memcpy(&p, bytes, size < sizeof p ? size : sizeof p);
    if (access(at("2"), F_OK)) state_write(m, &p, at("2"));
    state_read(m, &p, size & 1, at("2"));
    loader_seek(&f, (int)p.epoch, (int)p.row);
    Batch b = batch_new(2, 8);
    for (int i = 0; i < 4; i++) loader_batch(&f, &b);
}

void fuzz_json(void)
{
    size_t size;
    char error[160], *text = read_file(at("0"), &size);
    Json *json = json_parse(text, size, error, sizeof error);
    if (json) json_write_string(stdout, json->text ? json->text : "", json->size);
    else die("%s", error);
}

/* The first byte chooses the name: none, .json, .csv or .tsv. */
void fuzz_examples(void)
{
    static const char *const names[] = {"x", "x.json", "x.csv", "x.tsv"};
    Examples x = {0};
    size_t size;
    char *text = read_file(at("0"), &size), *path = at(names[size ? *text & 3 : 0]);
    Writer *w = writer_open(path);
    writer_put(w, text + (size > 0), size - (size > 0)), writer_close(w);
    prep.context = 64;
    for (int f = 0; f < FINDING_COUNT; f++) {
        findings[f].count = 0;
        memset(findings[f].shown, 0, sizeof findings[f].shown);
    }
    read_examples(&x, path);
    if (x.files.size) printf("%s", x.files.bytes);
    examine(&x, words_new());
    split_examples(&x, 0.2, 1);
    report_findings(writer_open(at("records")));
}

/* 0: a file of tensors, 1: config.json. */
void fuzz_safetensors(void) { named("1", "config.json"), safetensors_read(named("0", "m")); }

/* 0: the index, 1: the file of tensors that it may name, "a". */
void fuzz_index(void) { named("1", "a"), weights_open(named("0", "i.json")); }

void fuzz_peft(void)
{
    prep.model = at("base"), prep.out = at("out");
    model_write(tiny_model(), prep.model, 0);
    named("1", "adapter_config.json");
    peft_import(folder, named("0", "adapter_model.safetensors"));
}

/* 0: run.txt, 1: log.csv, 2: samples.jsonl, 3: eval.jsonl. */
void fuzz_report(void)
{
    size_t size;
    named("0", "run.txt"), named("1", "log.csv"), named("2", "samples.jsonl");
    named("3", "eval.jsonl");
    command_report(1, (char *[]){at("")});
    char *page = read_file(at("report.html"), &size);
    if (strcasestr(page, "<script") || strcasestr(page, "<img") || strcasestr(page, "<iframe"))
        finding("an element from data in a page");
}

/* A line of chat, as JSON and as it is. */
void fuzz_chat(void)
{
    size_t size;
    int count;
    char error[256], *line = read_file(at("0"), &size);
    Chat c = {0};
    Tokenizer *t = words_new();
    chat_add(&c, USER, line, size), chat_add(&c, ASSISTANT, line, size);
    chat_add(&c, USER, line, size), chat_prompt(&c, t, 40, &count);
    print_plain(stdout, line, size);
    line_tokens(t, line, size, &count, error, sizeof error);
}

void fuzz_questions(void)
{
    Evaluation e = {.t = words_new()};
    opt.questions = at("0");
    questions_read(&e);
    for (const Json *row = e.question[0]; row; row = row->next)
        faults(json_get(row, "expect"), "the cat costs 4.50 euros");
}

void fuzz_pairs(void)
{
    Evaluation e = {.t = words_new()};
    opt.pairs = at("0");
    report_pairs(&e, writer_open(at("records")));
}

static const struct { const char *name; void (*run)(void); } targets[] = {
    {"model", fuzz_model}, {"tokenizer", fuzz_tokenizer}, {"tokens", fuzz_tokens},
    {"state", fuzz_state}, {"adapter", fuzz_adapter}, {"json", fuzz_json},
    {"examples", fuzz_examples}, {"safetensors", fuzz_safetensors}, {"index", fuzz_index},
    {"config", fuzz_config}, {"peft", fuzz_peft}, {"peft_config", fuzz_peft_config},
    {"tokenizer_json", fuzz_tokenizer_json}, {"vocabulary", fuzz_vocabulary},
    {"report", fuzz_report}, {"chat", fuzz_chat}, {"questions", fuzz_questions},
    {"pairs", fuzz_pairs}, {NULL, NULL}
};

/* ---- one input ---- */

/* Write the parts of an input, which lines "====" divide, to the files 0, 1, ... */
void parts_write(const char *data, size_t size)
{
    for (int i = 0; data && i < 4; i++) {
        char path[sizeof folder + 2];
        const char *line = size ? memmem(data, size, "\n====\n", 6) : NULL;
        size_t part = line ? (size_t)(line - data) : size;
        snprintf(path, sizeof path, "%s/%d", folder, i);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(data, 1, part, file) != part || fclose(file)) finding("no space");
        data = line ? line + 6 : NULL, size -= line ? part + 6 : 0;
    }
}

/* Remove the files of the folder, or the folder as well. */
void folder_clear(int all)
{
    char path[400];
    struct dirent *entry;
    DIR *files = opendir(folder);
    while (files && (entry = readdir(files))) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    if (files) closedir(files);
    if (all) rmdir(folder);
}
void folder_remove(void) { folder_clear(1); }

/* Nothing that a terminal would obey is in what was printed. */
void output_check(const char *text, size_t size)
{
    uint32_t c;
    for (size_t i = 0, n; i < size; i += n ? n : 1) {
        n = utf8_decode(text + i, size - i, &c);
        if (n && c != '\n' && c != '\t' && (c < ' ' || (c >= 0x7F && c < 0xA0)))
            dprintf(2, "%.*s\n", (int)size, text), finding("a control character is printed");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int target = -1;
    char *text, *name = getenv("FUZZ");
    size_t printed;
    FILE *out = stdout, *err = stderr;
    if (target < 0) {
        for (target = 0; targets[target].name && strcmp(targets[target].name, name); target++) {}
        if (!targets[target].name) dprintf(2, "FUZZ: no parser is named %s\n", name), _exit(2);
        snprintf(folder, sizeof folder, "/dev/shm/fuzz.%d", (int)getpid());
        mkdir(folder, 0700);
        atexit(folder_remove);
    }
    parts_write((const char *)data, size);
    stdout = stderr = open_memstream(&text, &printed);
    most = 8 * size + FIXED;
    if (setjmp(ended) == 0) targets[target].run();
    fclose(stdout);
    stdout = out, stderr = err;
    output_check(text, printed);
    if (getenv("SHOW")) printf("%s", text);
    free(text);
    for (int i = 0; i < OPEN; i++) if (opened[i]) held_fclose(opened[i]);
    while (blocks.next != &blocks) held_free(blocks.next + 1);
    open_writers = NULL, writers_grouped = 0;
    folder_clear(0);
    return 0;
}

#ifdef REPLAY

/* Write dir/TARGET, an input made of `count` files (NULL: an empty one). */
void seed(const char *dir, const char *target, const char *number, int count, char **path)
{
    size_t size;
    make_folder(format("%s/%s", dir, target));
    Writer *w = writer_open(format("%s/%s/%s", dir, target, number));
    for (int i = 0; i < count; i++) {
        char *bytes = path[i] ? read_file(path[i], &size) : NULL;
        if (i) writer_put(w, "\n====\n", 6);
        if (bytes) writer_put(w, bytes, size);
    }
    writer_close(w);
}
#define SEED(target, number, ...) \
    seed(dir, target, number, sizeof (char *[]){__VA_ARGS__} / sizeof (char *), \
         (char *[]){__VA_ARGS__})

/* A file with this text. */
char *written(const char *name, const char *text)
{
    text_write(at(name), format("%s", text));
    return at(name);
}

/* Inputs that each parser accepts, from which libFuzzer makes others. */
void seeds_write(const char *dir)
{
    Model *m = tiny_model();
    Tokenizer *t = words_new();
    uint16_t ids[60] = {0};
    int32_t header[HEADER] = {TOKENS_MAGIC, 1, 60};
    char *text = at("text_train.bin"), *rows = at("rows_train.bin");
    Progress p = {.step = 3, .inputs = "model = m\nseed = 1\nlr = 3\n"};
    for (int i = 0; i < 60; i++) ids[i] = i % 7 ? i : 0;
    for (int v = 1; v <= 2; v++) {
        Writer *w = writer_open(v == 1 ? text : rows);
        header[1] = v;
        writer_put(w, header, sizeof header), writer_put(w, ids, sizeof ids);
        writer_put(w, ids, v == 1 ? 0 : 60), writer_close(w);
    }
    SEED("tokens", "1", text), SEED("tokens", "2", rows);
    char *progress = at("progress");
    Writer *w = writer_open(progress);
    writer_put(w, &p, sizeof p), writer_close(w);
    SEED("state", "1", text, progress), SEED("state", "2", rows, progress);
    model_write(m, at("m32"), 0), model_write(m, at("m16"), 1);
    SEED("model", "1", at("m32")), SEED("model", "2", at("m16"));
    tokenizer_write(t, at("t")), folder_write(m, t, folder, 0);
    SEED("tokenizer", "1", at("t")), SEED("tokenizer", "2", "data/mini_tokenizer.bin");
    SEED("safetensors", "1", at("model.safetensors"), at("config.json"));
    SEED("index", "1", written("i", "{\"weight_map\": {\"wte.weight\": \"a\"}}"),
         at("model.safetensors"));
    SEED("config", "1", at("config.json")), SEED("vocabulary", "1", at("vocab.json"),
                                                 at("merges.txt"));
    size_t n;
    char *vocab = read_file(at("vocab.json"), &n);
    SEED("tokenizer_json", "1", written("tj", format("{\"model\": {\"type\": \"BPE\", \"vocab\": %s,"
         "\"merges\": [\"t h\", [\"th\", \"e\"]]}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"},"
         "\"added_tokens\": [{\"content\": \"<pad>\", \"id\": 300}]}", vocab)));
    model_adapt(m, (Adapter){.alpha = 2, .rank = 2, .on = 3, .base = model_fingerprint(m)}, 1);
    adapter_write(m, at("adapter")), model_write(m, at("base"), 0);
    SEED("adapter", "1", at("adapter"));
    prep.out = at("peft"), prep.adapter = at("adapter");
    peft_export(at("base"));
    char *config = at("peft/adapter_config.json");
    SEED("peft_config", "1", config), SEED("peft_config", "2", "data/adapters/adapter_config.json");
    SEED("peft", "1", at("peft/adapter_model.safetensors"), config);
    SEED("json", "1", at("config.json"));
    SEED("json", "2", written("j", "\"\\ud83d\\ude00\\u0000\""));
    SEED("examples", "1", written("e1", "0{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, "
         "{\"role\": \"assistant\", \"content\": \"b\"}]}\n{\"prompt\": \"c\", \"completion\": \"d\"}\n"
         "{\"instruction\": \"e\", \"input\": \"f\", \"output\": \"g\"}\n"));
    SEED("examples", "2", written("e2", "2prompt,completion\n\"a, \"\"b\"\"\",c\nd,\"e\nf\"\n"));
    SEED("examples", "3", written("e3", "3text\tlabel\na\tgood\nb\tbad\n"));
    SEED("examples", "4", written("e4", "1[{\"conversations\": [{\"from\": \"human\", \"value\": "
         "\"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}, {\"question\": \"\", \"answer\": 1}]"));
    SEED("report", "1", written("run.txt", "data = d<script>\nmodel = m\ncommand = a & b\n"),
         written("log.csv", format("%s\n0,0,0,,5,,,,1\n1,0.1,9,4,,1e-3,1,9,2\n2,1,9,3,3,1e-3,1,9,2\n",
         log_header)), written("s", "{\"when\":\"before\",\"prompt\":\"<img>\",\"text\":\"b\"}\n"),
         written("v", "{\"title\": \"t\", \"columns\": [\"a\", \"b\"], \"rows\": [[\"x\", 1.5]]}\n"));
    SEED("chat", "1", written("c1", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"));
    SEED("chat", "2", written("c2", "{\"prompt\": \"a\\u009b\"}"));
    SEED("questions", "1", written("q", "{\"prompt\": \"a\", \"completion\": \"b\", \"expect\": "
         "{\"must\": [\"4 euros|cat\"], \"must_not\": [\"\\u0041.5\"]}}\n"));
    SEED("pairs", "1", written("pa", "{\"a\": \"he\", \"b\": \"she\", \"group\": \"g\"}\n"));
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        const char *dir = getenv("FOLDER") ? getenv("FOLDER") : "/dev/shm/fuzz";
        snprintf(folder, sizeof folder, "%s.made", dir);
        most = SIZE_MAX, make_folder(folder), make_folder(dir);
        if (setjmp(ended)) return 1;
        seeds_write(dir);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        struct stat status;
        FILE *file = file_open(argv[i], &status);
        uint8_t *data = malloc((size_t)status.st_size + 1);
        size_t size = fread(data, 1, (size_t)status.st_size, file);
        held_fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%d inputs: nothing found\n", argc - 1);
    return 0;
}
#endif
