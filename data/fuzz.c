/* fuzz.c - random files for every parser: each ends in a result or in one clear line.
 *
 *     make fuzz SECONDS=60                  libFuzzer, a minute for each parser
 *     FUZZ=examples /tmp/fuzz.run FILE ...  give inputs to one parser again; SHOW=1: its messages
 *     /tmp/fuzz.run                         write inputs to begin with to FOLDER (/tmp/fuzz)
 *
 * FUZZ names a row of the table `targets`. The sanitizers find what C forbids. An input also fails
 * if the parser holds more than 8 bytes for each of its own and FIXED more, if it prints a control
 * character, or if what it accepts is not what the harness knows of all that is right.
 * Where a parser reads several files, lines "====" divide the input into them.
 *
 * Planted bugs and when each was found: a size off by one in safetensors (3 s), the padding of GGUF
 * (1 s), 65 brackets in JSON (2 s), one column too many in csv_row (4 s), a token's bytes (7 s).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sanitizer/asan_interface.h>

enum { FIXED = 16 << 20, OPEN = 64 };
#define NO_ASAN __attribute__((no_sanitize("address")))

/* ---- memory, files and exit of a parser: what it leaves behind is freed after each input ---- */

typedef struct Block { struct Block *next, *before; size_t size, kept; } Block;

static Block blocks = {&blocks, &blocks, 0, 0};       /* a ring of all that is held */
static size_t held, most, keeping;                    /* bytes now; the most allowed; see setup */
static FILE *opened[OPEN];
static jmp_buf ended;

#define finding(what) (dprintf(2, "FOUND: " what "\n"), abort())

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
    *b = (Block){blocks.next, &blocks, bytes, keeping};
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
    if (p) ((Block *)new - 1)->kept = ((Block *)p - 1)->kept;
    held_free(p);
    return new;
}

/* Free what an input has left, but not what `setup` made. */
NO_ASAN void held_clear(void)
{
    for (Block *b = blocks.next, *next; b != &blocks; b = next)
        if (next = b->next, !b->kept) held_free(b + 1);
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
    int i = 0;
    while (opened[i]) if (++i == OPEN) finding("too many files are open");
    return opened[i] = fdopen(fd, mode);
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
#undef free
#undef fclose
#undef exit

/* ---- the parsers: each gets the input as the files 0, 1, ... of a folder ---- */

static char folder[100];
static const Config tiny = {8, 264, 1, 2, 8, 264};
static const char sentence[] = "the cat, the hat and the other cat";
static const char inputs[] = "model = m\ndata = d\nseed = 1\n";
static Tokenizer *words;

/* The path of a file of the folder, under its number or the name that a parser looks for. */
char *at(const char *name) { return format("%s/%s", folder, name); }

/* The number i as a name for a part, and then with the right name beside it. */
char *named(const char *part, const char *name)
{
    rename(at(part), at(name));
    return at(name);
}

Model *tiny_model(void)
{
    Model *m = model_new(tiny);
    model_initialize(m, 1);
    return m;
}

void fuzz_model(void) { model_read(at("0")), model_read_as(at("0"), 1); }
void fuzz_adapter(void) { adapter_read(tiny_model(), at("0")); }
void fuzz_config(void) { named("0", "config.json"), config_complete(tiny, at("m.safetensors")); }
void fuzz_peft_config(void) { peft_config(at("0")); }

/* Whatever a vocabulary is, the tokens of a text spell that text. */
void tokenizer_check(Tokenizer *t)
{
    size_t count;
    Text spelled = {0};
    int32_t *ids = tokenizer_encode(t, sentence, sizeof sentence - 1, 0, &count);
    for (size_t i = 0; i < count; i++)
        text_add(&spelled, t->bytes + t->start[ids[i]], token_size(t, ids[i]));
    if (strcmp(spelled.bytes, sentence)) finding("tokens do not spell the text");
}

/* What all inputs use: a vocabulary, and the memory that encoding and products keep. */
void setup(void)
{
    Model *m = tiny_model();
    Batch b = batch_new(1, 8);
    keeping = 1;
    words = tokenizer_train(sentence, sizeof sentence - 1, tiny.V);
    tokenizer_check(words);
    model_prepare(m, TRAINING, 1, 8, 0);
    model_loss(m, &b, (Dropout){0}, 0, 0);
    keeping = 0;
}

void fuzz_tokenizer(void) { tokenizer_check(tokenizer_read(at("0"))); }
void fuzz_tokenizer_json(void) { tokenizer_check(tokenizer_json_read(at("0"))); }
void fuzz_vocabulary(void) { tokenizer_check(vocabulary_read(at("0"), at("1"))); }

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

/* 0: a token file, 1: a state, whose checksum is made right. If it is accepted, it is of this run,
 * and the first loss is that of the weights in the file on the row that follows those read. */
void fuzz_state(void)
{
    size_t size;
    uint64_t sum = 0;
    int32_t header[HEADER];
    Progress p = {0}, saved;
    Piece pieces[PIECES + 1];
    Model *m = tiny_model(), *other = tiny_model();
    Batch b = batch_new(1, 8), next = batch_new(1, 8);
    rename(at("0"), at("d_train.bin"));
    Tokens t = tokens_read(at("d"), "train", tiny.V);
    DataLoader f = loader_new(&t, 8, 0, 1, 1, 0), walk = loader_new(&t, 8, 0, 1, 1, 0);
    model_prepare(m, TRAINING, 1, 8, 0), model_prepare(other, TRAINING, 1, 8, 0);
    char *bytes = read_file(at("1"), &size), *from = bytes;
    if (state_pieces(pieces, other, &saved, header) == size) {
        for (const Piece *x = pieces; x->data; from += x++->bytes)
            sum = checksum(sum, memcpy(x->data, from, x->bytes), x->bytes);
        memcpy(from, &sum, sizeof sum);
    }
    Writer *w = writer_open(at("s"));
    writer_put(w, bytes, size), writer_close(w);
    memcpy(p.inputs, inputs, sizeof inputs);
    state_read(m, &p, t.count & 1, at("s"));
    for (Lines l = {.at = inputs, .end = inputs + sizeof inputs - 1}; next_line(&l);)
        if (!(t.count & 1) && !memmem(saved.inputs, sizeof saved.inputs, l.text, l.size))
            finding("the state of another run is accepted");
    loader_seek(&f, (int)p.epoch, (int)p.row);
    for (int i = 0; i < 200 && (walk.epoch != f.epoch || walk.row != f.row); i++)
        loader_batch(&walk, &b);
    if (walk.epoch != f.epoch || walk.row != f.row) return;   /* no run reaches this row */
    loader_batch(&f, &b), loader_batch(&walk, &next);
    double loss = model_loss(m, &b, (Dropout){0}, 0, 0);
    if (loss != model_loss(other, &next, (Dropout){0}, 0, 0) && loss == loss)
        finding("the first loss is not that of the state");
}

/* The most brackets inside each other. */
int json_depth(const Json *json)
{
    int depth = 0;
    for (const Json *x = json->child; x; x = x->next) depth = max_int(depth, json_depth(x));
    return depth + (json->type == '[' || json->type == '{');
}

/* What is accepted is so inside as many brackets as make 64 with its own, and not inside more. */
void fuzz_json(void)
{
    size_t size;
    char error[160], *text = read_file(at("0"), &size);
    Json *json = json_parse(text, size, error, sizeof error);
    if (!json) die("%s", error);
    json_write_string(stdout, json->text ? json->text : "", json->size);
    for (int depth = json_depth(json), more = 64 - depth; more <= 65 - depth; more++) {
        Text inside = {0};
        for (int i = 0; i < more; i++) text_add(&inside, "[", 1);
        text_add(&inside, text, size);
        for (int i = 0; i < more; i++) text_add(&inside, "]", 1);
        if (!json_parse(inside.bytes, inside.size, error, sizeof error) != (more + depth > 64))
            finding("the limit of 64 brackets");
    }
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
    for (int f = 0; f < FINDING_COUNT; f++)
        findings[f].count = 0, memset(findings[f].shown, 0, sizeof findings[f].shown);
    read_examples(&x, path);
    if (x.files.size) printf("%s", x.files.bytes);
    examine(&x, words);
    split_examples(&x, 0.2, 1);
    report_findings(writer_open(at("records")));
}

/* 0: a file of tensors, 1: config.json. Header and tensors are the whole file. */
void fuzz_safetensors(void)
{
    named("1", "config.json");
    Weights w = weights_open(named("0", "m"));
    uint64_t size = 0;
    Reader *r = w.entry[0].file;
    reader_seek(r, 0), reader_get(r, &size, sizeof size);
    size += sizeof size;
    for (const Stored *s = w.entry; s < w.entry + w.count; s++)
        size += s->count * number_types[s->type].bytes;
    if (size != r->size) finding("the tensors are not the whole file");
    safetensors_read(at("m"));
}

/* The number of so many bytes at *at, which moves on; 0 bytes: skip a text, after its length. */
uint64_t gguf_get(const Text *file, size_t *at, size_t bytes)
{
    uint64_t x = 0, skip = bytes ? 0 : gguf_get(file, at, 8);
    if (*at > file->size || bytes > file->size - *at || skip > file->size - *at)
        finding("the GGUF file ends too early");
    memcpy(&x, file->bytes + *at, bytes), *at += bytes + skip;
    return x;
}

/* 0: a vocabulary, 1: a model. The file that export makes of them is as GGUF prescribes: keys, then
 * tensors, one after the other, each from a multiple of 32 on, to the end of the file. */
void fuzz_gguf(void)
{
    static const size_t sizes[] = {[4] = 4, 4, 4, 1, 0};      /* of types; 8 is a text */
    static const char *const names[] = {"f32", "f16", "bf16", "q8_0"};
    Text file = {0};
    size_t at_byte = 8, end = 0;
    read_file(at("0"), &file.size), prep.type = names[file.size & 3];
    prep.tokenizer = at("0"), prep.out = at("x.gguf"), prep.adapter = NULL;
    command_export(1, (char *[]){at("1")});
    file.bytes = read_file(prep.out, &file.size);
#define GET(bytes) gguf_get(&file, &at_byte, bytes)
    uint64_t tensors = GET(8), keys = GET(8);
    while (keys--) {
        GET(0);
        uint64_t type = GET(4), list = type == 9;
        if (list) type = GET(4);
        for (uint64_t n = list ? GET(8) : 1; n > 0; n--) GET(sizes[type]);
    }
    while (tensors--) {
        size_t count = 1;
        GET(0);
        for (uint64_t d = GET(4); d > 0; d--) count *= GET(8);
        uint64_t type = GET(4), bytes = type == 8 ? count / 32 * 34 : (type ? 2 : 4) * count;
        if (GET(8) != end) finding("a tensor begins elsewhere");
        end = (end + bytes + 31) / 32 * 32;
    }
    if ((at_byte + 31) / 32 * 32 + end != file.size) finding("the tensors do not end the file");
}

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
    chat_add(&c, USER, line, size), chat_add(&c, ASSISTANT, line, size);
    chat_add(&c, USER, line, size), chat_prompt(&c, words, 40, &count);
    print_plain(stdout, line, size);
    line_tokens(words, line, size, &count, error, sizeof error);
}

void fuzz_questions(void)
{
    Evaluation e = {.t = words};
    opt.questions = at("0");
    questions_read(&e);
    for (const Json *row = e.question[0]; row; row = row->next)
        faults(json_get(row, "expect"), "the cat costs 4.50 euros");
}

void fuzz_pairs(void)
{
    Evaluation e = {.t = words};
    opt.pairs = at("0");
    report_pairs(&e, writer_open(at("records")));
}

#define T(name) {#name, fuzz_##name}
static const struct { const char *name; void (*run)(void); } targets[] = {
    T(model), T(tokenizer), T(tokens), T(state), T(adapter), T(json), T(examples), T(safetensors),
    T(index), T(config), T(peft), T(peft_config), T(tokenizer_json), T(vocabulary), T(report),
    T(chat), T(questions), T(pairs), T(gguf), {NULL, NULL}
};

/* ---- one input ---- */

/* Write the parts of an input, which lines "====" divide, to the files 0, 1, ... */
void parts_write(const char *data, size_t size)
{
    for (int i = 0; data && i < 4; i++) {
        const char *line = size ? memmem(data, size, "\n====\n", 6) : NULL;
        size_t part = line ? (size_t)(line - data) : size;
        FILE *file = fopen(at((char[]){(char)('0' + i), 0}), "wb");
        if (!file || fwrite(data, 1, part, file) != part || fclose(file)) finding("no space");
        data = line ? line + 6 : NULL, size -= line ? part + 6 : 0;
    }
}

/* Remove the files of the folder. */
void folder_clear(void)
{
    struct dirent *entry;
    DIR *files = opendir(folder);
    while (files && (entry = readdir(files))) unlinkat(dirfd(files), entry->d_name, 0);
    if (files) closedir(files);
}
void folder_remove(void) { system(format("rm -rf %s", folder)); }

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

static int target;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;
    size_t printed;
    FILE *out = stdout, *err = stderr;
    most = held + 8 * size + FIXED;
    parts_write((const char *)data, size);
    stdout = stderr = open_memstream(&text, &printed);
    if (setjmp(ended) == 0) targets[target].run();
    fclose(stdout);
    stdout = out, stderr = err;
    output_check(text, printed);
    if (getenv("SHOW")) printf("%s", text);
    free(text);
    for (int i = 0; i < OPEN; i++) if (opened[i]) held_fclose(opened[i]);
    held_clear();
    open_writers = NULL, writers_grouped = 0;
    folder_clear();
    return 0;
}

/* ---- inputs to begin with ---- */

/* Texts that the parsers accept; ' stands for ", and a line ==== divides files. */
static const struct { const char *target, *text; } texts[] = {
    {"json", "'\\ud83d\\ude00\\u0000'"}, {"json", "[1, -2.5e3, true, null, {'a': ''}]"},
    {"examples", "0{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', "
                 "'content': 'b'}]}\n{'prompt': 'c d e', 'completion': 'd'}\n{'prompt': 'c d e', "
                 "'completion': 'e'}\n{'instruction': 'e', 'input': 'f', 'output': 'g'}\n"},
    {"examples", "2prompt,completion\n'a, ''b''',c\nd,'e\nf'\n"},
    {"examples", "2,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,\n"},
    {"examples", "3text\tlabel\na\tgood\nb\tbad\nc\tgood\nd\tbad\ne\tbad\nf\tgood\ng\tbad\n"},
    {"examples", "2x1,yes\nx2,no\nx3,yes\nx4,no\nx4,no\n"},
    {"examples", "1[{'conversations': [{'from': 'human', 'value': 'a'}, {'from': 'gpt', 'value': "
                 "'b'}]}, {'question': '', 'answer': 1}]"},
    {"report", "data = d<script>\nmodel = m\ncommand = a & b\n\n====\n"
               "step,epoch,tokens,train_loss,val_loss,lr,grad_norm,tokens_per_s,seconds\n"
               "0,0,0,,5,,,,1\n1,0.1,9,4,,1e-3,1,9,2\n2,1,9,3,3,1e-3,1,9,2\n\n====\n"
               "{'when':'before','prompt':'<img>','text':'b'}\n\n====\n"
               "{'title': 't', 'columns': ['a', 'b'], 'rows': [['x', 1.5]]}\n"},
    {"chat", "{'messages': [{'role': 'user', 'content': 'a'}]}"},
    {"chat", "{'prompt': 'a\\u009b'}"},
    {"questions", "{'prompt': 'a', 'completion': 'b', 'expect': {'must': ['4 euros|cat'], "
                  "'must_not': ['\\u0041.5']}}\n"},
    {"pairs", "{'a': 'he', 'b': 'she', 'group': 'g'}\n"},
    {"index", "{'weight_map': {'wte.weight': 'a'}}\n====\n"}, {NULL, NULL}
};

/* Write an input for a target, made of files of the folder (NULL after the last). */
void seed(const char *target, char **name)
{
    static int number;
    size_t size;
    const char *dir = getenv("FOLDER") ? getenv("FOLDER") : "/tmp/fuzz";
    make_folder(dir), make_folder(format("%s/%s", dir, target));
    Writer *w = writer_open(format("%s/%s/%d", dir, target, number++));
    for (int i = 0; name[i]; i++) {
        char *bytes = read_file(at(name[i]), &size);
        if (i) writer_put(w, "\n====\n", 6);
        writer_put(w, bytes, size);
    }
    writer_close(w);
}
#define SEED(target, ...) seed(target, (char *[]){__VA_ARGS__, NULL})

/* Inputs that each parser accepts, from which libFuzzer makes others. */
void seeds_write(void)
{
    Model *m = tiny_model(), *run = tiny_model();
    uint16_t ids[60] = {0};
    int32_t header[HEADER] = {TOKENS_MAGIC, 1, 60};
    Progress p = {.step = 3, .row = 3};
    for (int i = 0; i < 60; i++) ids[i] = i % 7 ? i : 0;
    for (; header[1] <= 2; header[1]++) {
        Writer *w = writer_open(at(header[1] == 1 ? "text" : "rows"));
        writer_put(w, header, sizeof header), writer_put(w, ids, sizeof ids);
        writer_put(w, ids, header[1] == 1 ? 0 : 60), writer_close(w);
    }
    memcpy(p.inputs, inputs, sizeof inputs);
    model_prepare(run, TRAINING, 1, 8, 0), state_write(run, &p, at("state"));
    model_write(m, at("m32"), 0), model_write(m, at("m16"), 1), tokenizer_write(words, at("t"));
    folder_write(m, words, folder, 0);
    model_adapt(m, (Adapter){.alpha = 2, .rank = 2, .on = 3, .base = model_fingerprint(m)}, 1);
    adapter_write(m, at("adapter"));
    prep.out = at("peft"), prep.adapter = at("adapter");
    peft_export(at("m32"));
    SEED("tokens", "text"), SEED("tokens", "rows");
    SEED("state", "text", "state"), SEED("state", "rows", "state");
    SEED("model", "m32"), SEED("model", "m16"), SEED("adapter", "adapter");
    SEED("tokenizer", "t"), SEED("gguf", "t", "m32");
    SEED("vocabulary", "vocab.json", "merges.txt");
    SEED("safetensors", "model.safetensors", "config.json"), SEED("config", "config.json");
    SEED("peft", "peft/adapter_model.safetensors", "peft/adapter_config.json");
    SEED("peft_config", "peft/adapter_config.json");
    Text all = {0}, vocabulary = {0};
    vocabulary.bytes = read_file(at("vocab.json"), &vocabulary.size);
    text_print(&all, JSON_TEXT({
        "model": {"type": "BPE", "vocab": %s, "merges": ["t h", ["th", "e"]]},
        "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [{"content": "<pad>", "id": 300}]}),
        vocabulary.bytes);
    text_write(at("tokenizer.json"), all.bytes);
    SEED("tokenizer_json", "tokenizer.json");
    for (int i = 0; texts[i].target; i++) {
        char *text = format("%s", texts[i].text);
        for (char *c = text; (c = strchr(c, '\''));) *c = '"';
        text_write(at("s"), text), SEED((char *)texts[i].target, "s");
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("FUZZ");
    (void)argc, (void)argv;
    if (setjmp(ended)) _exit(1);
    snprintf(folder, sizeof folder, "/dev/shm/fuzz.%d", (int)getpid());
    most = SIZE_MAX, mkdir(folder, 0700), atexit(folder_remove), setup();
    if (!name) seeds_write(), exit(0);
    while (targets[target].name && strcmp(targets[target].name, name)) target++;
    if (!targets[target].name) dprintf(2, "FUZZ: no parser is named %s\n", name), exit(2);
    return 0;
}
