/* prepare.c - data in, models in and out, and judgement: all that surrounds training.
 *
 *     make prepare          or          cc -O3 -march=native -o prepare prepare.c -lm
 *     ./prepare --help    lists the commands
 *
 * Chapters   1 text   2 vocabularies   3 safetensors   4 import   5 export   6 download
 *            7 evaluation: statistics, tables, `train_gpt eval`, `compare`, `classify`
 *            8 examples: what to learn from, read, checked, cleaned, split, counted
 *            9 report: a page from a run's records   10 explain: a page from one forward pass
 *            11 search   12 command line
 *
 * It includes train_gpt.c, whose table of parameters also has their names in Hugging Face's files.
 * What is allocated or opened once in a command stays so until the program ends.
 * Formats: [safetensors] github.com/huggingface/safetensors   [llm.c] github.com/karpathy/llm.c
 *          [PEFT] github.com/huggingface/peft   [RFC 4180] CSV
 *          [Bayardo et al. 2007] similar pairs   [Kaplan et al. 2020] flops
 */
#define NO_MAIN_TRAIN_GPT
#include "train_gpt.c"

/* The options of this file's own commands, filled by the table in the last chapter. The commands of
 * chapter 7 use `opt`, the options of train_gpt.c. */
struct {
    const char *out, *tokenizer, *url, *model, *adapter, *columns, *test;
    double val, augment[3];      /* shares: validation; changed copies by case, typos, drops */
    int seed, context, shots, bf16, peft;
    const char *type;            /* of the numbers that export writes */
    int drop[6];                 /* by group of findings (chapter 8): leave such rows out */
} prep;

int is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* The path, in new memory, of `name` in a folder or beside a file; NULL if it is not there. */
char *file_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash + 1 - path) : 0;
    char *found = is_folder(path) ? format("%s/%s", path, name)
                                  : format("%.*s%s", folder, path, name);
    return access(found, F_OK) == 0 ? found : NULL;
}

Writer *writer_in(const char *folder, const char *name)
{
    return writer_open(format("%s/%s", folder, name));
}

/* Write a file whose text is in memory of its own, which is freed. */
void text_write(const char *path, char *text)
{
    Writer *w = writer_open(path);
    writer_take(w, text);
    writer_close(w);
}

/* Read the next `size` bytes of a file, a JSON object. At most 8 MB (GPT-2's files need 1 MB) are
 * accepted, so that no file can claim all memory. */
Json *json_read(Reader *r, size_t size)
{
    enum { LIMIT = 8 << 20 };
    char error[200];
    if (size > LIMIT) die("%s: expected at most %d bytes of JSON, found %zu", r->path, LIMIT, size);
    char *text = allocate(size, 1);
    reader_get(r, text, size);
    Json *json = json_parse(text, size, error, sizeof error);
    if (!json) die("%s: %s", r->path, error);
    if (json->type != '{') die("%s: expected an object in braces", r->path);
    return json;
}

Json *json_file(const char *path)
{
    Reader r = reader_open(path);
    return json_read(&r, r.size);
}

/* A value, for a message. */
const char *json_shown(const Json *v)
{
    return !v || v->type == 'n' ? "none" : v->text ? shown(v->text) : v->type == '{' ? "an object"
         : v->type == '[' ? "a list" : v->type == 't' ? "true" : "false";
}

/* A size, an offset or an id: dies unless value is a whole number from 0 to 2^53, up to which the
 * doubles that hold numbers of JSON are exact. */
size_t json_whole(const Json *value, const char *path, const char *what)
{
    if (!value || value->type != '0' || !(value->number >= 0 && value->number < 0x1p53) ||
        value->number != floor(value->number))
        die("%s: %s: expected a whole number, found %.20s", path, what, json_shown(value));
    return value->number;
}

/* Are two values the same? `wanted` null: is v an empty one? */
int json_same(const Json *v, const Json *wanted)
{
    if (wanted->type == 'n') return strchr("{[\"", v->type) && !v->count && !v->size;
    return v->type == wanted->type && (v->type != '0' || v->number == wanted->number) &&
           (v->type != '"' || !strcmp(v->text, wanted->text));
}

/* JSON as a string of C: quotes need no backslashes in it. */
#define JSON_TEXT(...) #__VA_ARGS__

/* Die, with `advice`, unless the object says what `wanted`, an object as text, says of the same
 * keys; "a.b" is b in the object a. Of a list in `wanted` any value is right, and instead of any
 * value the object may have none, or null. */
void json_must(const Json *object, const char *wanted, const char *path, const char *advice)
{
    char error[200];
    Json *rules = json_parse(wanted, strlen(wanted), error, sizeof error);
    assert(rules);
    for (const Json *rule = rules->child; rule; rule = rule->next) {
        char *point = strchr(rule->key, '.');
        char *above = format("%.*s", point ? (int)(point - rule->key) : 0, rule->key);
        const Json *v = json_get(point ? json_get(object, above) : object,
                                 point ? point + 1 : rule->key);
        const Json *first = rule->type == '[' ? rule->child : rule, *good = first;
        if (!v || v->type == 'n') continue;
        while (good && !json_same(v, good)) good = good == rule ? NULL : good->next;
        if (!good) die("%s: %s: expected %s, found %.20s; %s", path, rule->key, json_shown(first),
                       json_shown(v), advice);
    }
}

/* ================================================================================================
 * 1. Text
 *
 * The validation loss is measured on text that the model has not seen. A cut at an arbitrary
 * character would validate a model on the end of a story whose beginning it has learned. So whole
 * documents, drawn at random, go to training or to validation.
 *
 * Documents are separated by lines <|endoftext|>. A file without such a line is cut into parts: at
 * the first empty line after 8 KB (or after a tenth of all input, if that is less), or at the
 * first line of any kind after twice as much. Rejected: each file is one document; then a book
 * could not be divided at all.
 */

typedef struct { const char *text; size_t size; int validation; } Document;
typedef struct { Document *document; size_t count; } Documents;

/* Append the text from begin to end, without the white space around it, unless it is empty. */
void documents_add(Documents *d, const char *begin, const char *end)
{
    size_t size = begin < end ? end - begin : 0;
    trim(&begin, &size);
    if (size == 0) return;
    d->document = grow(d->document, d->count, sizeof *d->document);
    d->document[d->count++] = (Document){begin, size, 0};
}

/* Append the documents of a text, which must stay in memory: if part is 0, those between lines
 * <|endoftext|>, otherwise parts of about that many bytes. Returns the number of cuts. */
int documents_cut(Documents *d, Text text, size_t part)
{
    Lines l = {.at = text.bytes, .end = text.bytes + text.size};
    const char *begin = text.bytes;
    int cuts = 0;
    while (next_line(&l)) {
        const char *line = l.text;
        size_t length = l.size, before = l.text - begin;
        trim(&line, &length);
        int cut = part ? before >= part && (length == 0 || before >= 2 * part)
                : length == END_OF_TEXT_SIZE && !memcmp(line, END_OF_TEXT, length);
        if (!cut) continue;
        documents_add(d, begin, l.text);
        begin = part ? l.text : l.at;                 /* a separator belongs to no document */
        cuts++;
    }
    documents_add(d, begin, l.end);
    return cuts;
}

/* Draw round(share * count) documents for validation, but at least one and not all. */
void documents_split(Documents *d, double share, int seed)
{
    int n = (int)d->count, *order = shuffled(n, random_key(seed, 0));
    int chosen = min_int(max_int((int)(share * n + 0.5), 1), n - 1);
    for (int i = 0; i < chosen; i++) d->document[order[i]].validation = 1;
}

/* Append a token; `target` says whether it counts in the loss. */
void tokens_push(Tokens *t, int id, int target)
{
    t->ids = grow(t->ids, t->count, sizeof *t->ids);
    t->loss_mask = grow(t->loss_mask, t->count, 1);
    t->ids[t->count] = (uint16_t)id, t->loss_mask[t->count++] = (uint8_t)target;
}

void tokens_add(Tokens *t, const uint16_t *ids, size_t count, int target)
{
    for (size_t i = 0; i < count; i++) tokens_push(t, ids[i], target);
}

/* The same with the tokens of a text. */
void tokens_encode(Tokens *t, Tokenizer *tokenizer, const char *text, size_t size, int target)
{
    size_t count;
    int32_t *ids = tokenizer_encode(tokenizer, text, size, 0, &count);
    for (size_t i = 0; i < count; i++) tokens_push(t, ids[i], target);
    free(ids);
}

/* Examples in memory, so far only the end of text that opens the first. */
Tokens documents_new(const char *name, const Tokenizer *t)
{
    Tokens docs = {.path = name, .examples = 1};
    tokens_push(&docs, t->end_of_text, 0);
    return docs;
}

/* Write the token file t->path: examples as version 2, with the mask, running text as version 1. */
void tokens_write(const Tokens *t)
{
    if (t->count > INT32_MAX)
        die("%s: %zu tokens are too many for one file; divide the input", t->path, t->count);
    int32_t header[HEADER] = {TOKENS_MAGIC, t->examples ? 2 : 1, t->count};
    memcpy(header + 3, &t->id, sizeof t->id);
    Writer *w = writer_open(t->path);
    writer_put(w, header, sizeof header);
    writer_put(w, t->ids, t->count * sizeof *t->ids);
    if (t->examples) writer_put(w, t->loss_mask, t->count);
    writer_close(w);
}

/* Write the sets of a preparation, training data first, with one id, a checksum of them all, and
 * remove the old files of those that are empty. They are renamed by writers_commit, training data
 * last. */
void sets_write(Tokens *set, int sets)
{
    uint64_t id = 0;
    for (Tokens *t = set; t < set + sets; t++) {
        id = checksum(id, t->ids, t->count * sizeof *t->ids);
        if (t->examples) id = checksum(id, t->loss_mask, t->count);
    }
    for (Tokens *t = set + sets - 1; t >= set; t--) {
        t->id = id | 1;                               /* not 0, which means none */
        if (t->count > 1) tokens_write(t);
        else unlink(t->path);
    }
}

/* Read a vocabulary whose ids fit into the 16 bits of a token file. */
Tokenizer *tokenizer_for_tokens(const char *path)
{
    Tokenizer *t = tokenizer_read(path);
    if (t->count > 1 << 16) die("%s: has %d tokens; a token file can name 65536", path, t->count);
    return t;
}

/* The documents of one side, each as <|endoftext|> and its tokens, for the file at path. */
Tokens documents_tokens(const Documents *d, int validation, const char *path, Tokenizer *t)
{
    Tokens tokens = {.path = path};
    size_t documents = 0, bytes = 0;
    for (const Document *e = d->document; e < d->document + d->count; e++) {
        if (e->validation != validation) continue;
        tokens_push(&tokens, t->end_of_text, 0);
        tokens_encode(&tokens, t, e->text, e->size, 0);
        documents++, bytes += e->size;
    }
    if (documents)
        printf("%s: %zu documents, %zu bytes, %zu tokens\n", path, documents, bytes, tokens.count);
    return tokens;
}

/* Write the documents of text files as data for training and for validation. */
int command_text(int words, char **word)
{
    Text *texts = allocate(words, sizeof *texts);
    size_t total = 0;
    Documents d = {0};
    Tokenizer *t = tokenizer_for_tokens(prep.tokenizer);
    for (int i = 0; i < words; total += texts[i++].size)
        texts[i].bytes = read_file(word[i], &texts[i].size);
    for (int i = 0; i < words; i++) {
        size_t before = d.count;
        if (documents_cut(&d, texts[i], 0)) continue;
        d.count = before;                             /* no separator: divide the one document */
        documents_cut(&d, texts[i], total / 10 < 8192 ? total / 10 + 1 : 8192);
    }
    if (d.count == 0) die("%s: there is no text%s", word[0], words > 1 ? ", nor in others" : "");
    if (d.count == 1 && prep.val > 0)
        die("%s: one document cannot be divided into training and validation; put lines %s between "
            "documents, or give --val 0 to validate on nothing", word[0], END_OF_TEXT);
    if (prep.val > 0) documents_split(&d, prep.val, prep.seed);
    char *train = format("%s_train.bin", prep.out), *val = format("%s_val.bin", prep.out);
    Tokens held_out = documents_tokens(&d, 1, val, t);
    Tokens set[] = {documents_tokens(&d, 0, train, t), held_out};
    writers_begin();
    sets_write(set, 2);
    writers_commit();
    return 0;
}

/* ================================================================================================
 * 2. Vocabularies
 *
 * Hugging Face keeps a vocabulary in two files: vocab.json gives each token its id, merges.txt
 * lists the pairs of tokens in the order in which they are merged. Newer programs write both into
 * one file, tokenizer.json, together with what is done to a text before and after. All write a byte
 * as a character (tokenizer_byte_code_point). We keep only the spellings in the order of ids, which
 * say the same: the earlier merge makes the lower id. This is checked for every merge that is read.
 */

enum { WORD = 2 * TOKEN_BYTES + 1 };                   /* a token in such characters, and a zero */

/* Write token id in such characters; returns the length in bytes. */
size_t word_from_token(char word[WORD], const Tokenizer *t, int id)
{
    int size;
    const char *bytes = tokenizer_bytes(t, id, &size);
    size_t length = 0;
    for (int i = 0; i < size; i++)
        length += utf8_encode(word + length, tokenizer_byte_code_point((uint8_t)bytes[i]));
    word[length] = 0;
    return length;
}

/* The opposite: the bytes of a word. Returns their number, 0 if it is no word of 1 to TOKEN_BYTES
 * such characters. */
size_t bytes_from_word(char bytes[TOKEN_BYTES], const char *word, size_t size)
{
    static short byte_of[0x200];                       /* by code point: byte + 1 */
    size_t count = 0, length;
    if (!byte_of['a'])
        for (int b = 0; b < 256; b++) byte_of[tokenizer_byte_code_point(b)] = b + 1;
    for (uint32_t c; size > 0; word += length, size -= length) {
        length = utf8_decode(word, size, &c);
        if (length == 0 || c >= 0x200 || !byte_of[c] || count == TOKEN_BYTES) return 0;
        bytes[count++] = byte_of[c] - 1;
    }
    return count;
}

/* The line of merges.txt that makes token id; 0 if it is not made by a merge. */
int merge_line(char line[2 * WORD], const Tokenizer *t, int id)
{
    int left, right;
    if (!tokenizer_merge(t, id, &left, &right)) return 0;
    size_t length = word_from_token(line, t, left);
    line[length++] = ' ';
    word_from_token(line + length, t, right);
    return 1;
}

/* Die unless the lines of merges.txt have the merges that the ids imply, in their order. */
void merges_check(const Tokenizer *t, Text lines, const char *path)
{
    char expected[2 * WORD];
    Lines l = {.at = lines.bytes, .end = lines.bytes + lines.size};
    for (int id = 0; id <= t->count; id++) {           /* after the last id, the text must end */
        if (id == t->count) *expected = 0;
        else if (!merge_line(expected, t, id)) continue;
        do l.text = "", l.size = 0;
        while (next_line(&l) && (l.size == 0 || (l.number == 1 && *l.text == '#')));
        if (l.size != strlen(expected) || memcmp(l.text, expected, l.size))
            die("%s: merges, line %d: the ids of the tokens imply the merge '%s' here, found "
                "'%.*s'; only vocabularies of GPT-2's kind can be imported", path, l.number,
                expected, (int)(l.size < 40 ? l.size : 40), l.text);
    }
}

/* The id of the end of text: one of the words, or a token that was added right behind them. Other
 * added tokens are left out, and a line says so. */
size_t end_of_text_find(const Json *words, const Json *added, const char *path)
{
    const Json *end = json_get(words, END_OF_TEXT);
    for (const Json *a = added ? added->child : NULL; a; a = a->next) {
        const Json *text = json_get(a, "content"), *id = json_get(a, "id");
        if (!text || !text->text || json_get(words, text->text)) continue;
        if (!strcmp(text->text, END_OF_TEXT)) end = id;
        else printf("%s: the added token %.40s is left out; it is encoded like other text\n", path,
                    shown(text->text));
    }
    if (!end || json_whole(end, path, END_OF_TEXT) > words->count)
        die("%s: expected a token " END_OF_TEXT ", with an id up to %zu", path, words->count);
    return end->number;
}

/* A vocabulary: the words with their ids, {"word": id, ...}, at path; tokens that were added; the
 * lines of merges.txt, at merges_path. */
Tokenizer *vocabulary_from(const Json *words, const Json *added, const char *path, Text merges,
                           const char *merges_path)
{
    Json **token = allocate(words->count, sizeof *token);
    Tokenizer *t = tokenizer_new();
    t->end_of_text = (int)end_of_text_find(words, added, path);
    for (Json *member = words->child; member; member = member->next) {
        size_t id = json_whole(member, path, shown(member->key));
        if (id >= words->count || token[id])
            die("%s: expected each id from 0 to %zu once, found %zu for '%.40s'", path,
                words->count - 1, id, shown(member->key));
        token[id] = member;
    }
    for (size_t id = 0; id < words->count; id++) {
        char bytes[TOKEN_BYTES];
        size_t size = bytes_from_word(bytes, token[id]->key, token[id]->key_size);
        if (size == 0)
            die("%s: token %zu, '%.40s': expected 1 to %d characters of GPT-2's 256", path, id,
                shown(token[id]->key), TOKEN_BYTES);
        tokenizer_add(t, bytes, size);
    }
    if (t->end_of_text == t->count) tokenizer_add(t, END_OF_TEXT, END_OF_TEXT_SIZE);
    if (!tokenizer_index(t)) die("%s: expected a token for each of the 256 bytes", path);
    merges_check(t, merges, merges_path);
    return t;
}

/* Read a vocabulary from the two files. */
Tokenizer *vocabulary_read(const char *vocab, const char *merges)
{
    Text lines = {0};
    lines.bytes = read_file(merges, &lines.size);
    return vocabulary_from(json_file(vocab), NULL, vocab, lines, merges);
}

/* Merges, each "a b" or ["a", "b"], as the lines of merges.txt. */
Text merges_text(const Json *merges, const char *path)
{
    Text text = {0};
    text_print(&text, "#version: 0.2\n");
    for (const Json *m = merges->child; m; m = m->next) {
        const Json *a = m->type == '[' && m->count == 2 ? m->child : m, *b = a == m ? a : a->next;
        if (a->type != '"' || b->type != '"')
            die("%s: merges: expected two words each, found %.20s", path, json_shown(m));
        text_add(&text, a->text, a->size);
        if (b != a) text_add(&text, " ", 1), text_add(&text, b->text, b->size);
        text_add(&text, "\n", 1);
    }
    return text;
}

/* Read a vocabulary from a tokenizer.json. It can describe other kinds, too: these are refused. */
Tokenizer *tokenizer_json_read(const char *path)
{
    static const char wanted[] = JSON_TEXT({
        "model.type": "BPE", "normalizer.type": null, "pre_tokenizer.type": "ByteLevel",
        "pre_tokenizer.add_prefix_space": false, "pre_tokenizer.use_regex": true,
        "model.byte_fallback": false, "model.ignore_merges": false, "model.dropout": null,
        "model.continuing_subword_prefix": null, "model.end_of_word_suffix": null});
    const Json *json = json_file(path), *model = json_get(json, "model");
    const Json *words = json_get(model, "vocab"), *merges = json_get(model, "merges");
    json_must(json, wanted, path, "only byte-level BPE as in GPT-2 is read; to import a model "
              "without its tokenizer, name its model.safetensors instead of the folder");
    if (!json_get(json_get(json, "pre_tokenizer"), "type"))
        die("%s: pre_tokenizer.type: expected ByteLevel, found none", path);
    if (!words || words->type != '{' || !merges || merges->type != '[')
        die("%s: model: expected the vocab and the merges of BPE", path);
    return vocabulary_from(words, json_get(json, "added_tokens"), path, merges_text(merges, path),
                           path);
}

/* Die if two tokens are spelled alike: `where`, a file that lists spellings, cannot tell them. */
void spellings_check(const Tokenizer *t, const char *where)
{
    for (int id = 0; id < t->count; id++) {
        int64_t first = map_find(&t->ids, t->bytes + t->start[id], token_size(t, id))->value - 1;
        if (first >= 0 && first != id)
            die("%s: tokens %d and %d are spelled alike; a vocab.json cannot hold both", where,
                (int)first, id);
    }
}

/* Write vocab.json and merges.txt. */
void vocabulary_write(const Tokenizer *t, const char *folder)
{
    char line[2 * WORD];
    Writer *w = writer_in(folder, "vocab.json");
    for (int id = 0; id < t->count; id++) {
        size_t size = word_from_token(line, t, id);
        fputs(id ? ", " : "{", w->file);
        json_write_string(w->file, line, size);
        writer_print(w, ": %d", id);
    }
    writer_print(w, "}\n");
    writer_close(w);
    w = writer_in(folder, "merges.txt");
    writer_print(w, "#version: 0.2\n");
    for (int id = 0; id < t->count; id++)
        if (merge_line(line, t, id)) writer_print(w, "%s\n", line);
    writer_close(w);
}

/* ================================================================================================
 * 3. Safetensors
 *
 * Eight bytes give the length of a header; the header is JSON: for each tensor its type, its shape
 * and its first and last byte within the data that follow. The file may be damaged or hostile, so
 * it is used only if all of this holds: every length fits into the file; a tensor has as many bytes
 * as its type and shape need; tensors neither overlap nor leave a gap; every tensor of the model is
 * there once and in its shape; there is no unknown tensor. A large model is saved in several such
 * files, and model.safetensors.index.json tells for each tensor in which file it is.
 *
 * Names may begin with "transformer.". Old files also hold the masks of attention ("attn.bias"),
 * which are no parameters, and some hold the head, which in GPT-2 is wte itself, so the two must be
 * equal. Data need not be aligned: the header of the published gpt2 has 14,283 bytes.
 */

/* Types of numbers: how many make a block, and its bytes; what GGUF calls the type, and a file with
 * matrices of it. Those before READABLE are read, those up to Q8_0 written. */
enum { F32, F16, BF16, READABLE, Q8_0 = READABLE, Q8_BLOCK = 32 };
const struct { const char *name; size_t block, bytes; uint32_t gguf, gguf_file; } number_types[] = {
    {"F32", 1, 4, 0, 0}, {"F16", 1, 2, 1, 1}, {"BF16", 1, 2, 30, 32}, {"Q8_0", Q8_BLOCK, 34, 8, 7},
    {"F64", 1, 8, 0, 0}, {"I64", 1, 8, 0, 0}, {"I32", 1, 4, 0, 0}, {"I16", 1, 2, 0, 0},
    {"I8", 1, 1, 0, 0}, {"U8", 1, 1, 0, 0}, {"BOOL", 1, 1, 0, 0}, {0}
};

typedef struct {                 /* a tensor in a file */
    Reader *file;
    const char *name;            /* without "transformer." and what PEFT puts before that */
    int type;                    /* in number_types */
    char shape[48];              /* "768,2304"; cut off if longer, as no shape of GPT-2 is */
    size_t count, from, to;      /* how many numbers; the bytes where they stand */
    int tensor, layer;           /* which of the model's it is; tensor -1: none */
    size_t rows;                 /* of the model's that are columns here; 1: not transposed */
} Stored;

typedef struct {                 /* the tensors of a model as one file, or several, hold them */
    Config c;                    /* the shape; no tensor tells NH, and Vp = V */
    const char *path;            /* of the file or the index */
    Stored *entry;
    int count;
} Weights;

/* Rows `from` to `to` - 1 of a model's table of tensors, of L layers, as a file holds them: in that
 * type of number, one after the other from byte 0. Linear layers are stored as (in, out), ours as
 * (out, in). */
Weights tensors_listed(const Tensor *t, int from, int to, int L, int type)
{
    Weights w = {.entry = allocate((to - from) * L, sizeof *w.entry)};
    size_t at = 0;
    for (int i = from; i < to; i++)
        for (int l = 0; t[i].size && l < (t[i].layered ? L : 1); l++) {
            int kind = t[i].first_value, linear = kind == LINEAR || kind == RESIDUAL;
            Stored s = {.name = format(t[i].name, l), .type = type, .count = t[i].size, .from = at,
                        .tensor = i, .layer = l, .rows = linear ? t[i].rows : 1};
            s.to = at += s.count * number_types[type].bytes;
            if (kind == ONES || kind == ZEROS)
                snprintf(s.shape, sizeof s.shape, "%d", t[i].columns);
            else snprintf(s.shape, sizeof s.shape, "%d,%d", linear ? t[i].columns : t[i].rows,
                          linear ? t[i].rows : t[i].columns);
            w.entry[w.count++] = s;
        }
    return w;
}

/* The same of all tensors of a model of shape c, without the padding of wte. */
Weights weights_expected(Config c, int type)
{
    Tensor tensors[TENSORS];
    c.Vp = c.V;
    tensors_describe(c, tensors);
    return tensors_listed(tensors, 0, TENSORS, c.L, type);
}

/* The tensor of that name, or NULL. */
Stored *weights_find(const Weights *w, const char *name)
{
    for (Stored *s = w->entry; s < w->entry + w->count; s++)
        if (!strcmp(s->name, name)) return s;
    return NULL;
}

/* Read one entry of a header and check it by itself. The data begin at byte `data` of the file. */
Stored stored_read(Reader *r, Json *entry, size_t data)
{
    const char *name = shown(entry->key);
    Stored s = {.name = name, .file = r, .tensor = -1};
    if (!strncmp(s.name, "base_model.model.", 17)) s.name += 17;
    if (!strncmp(s.name, "transformer.", 12)) s.name += 12;
    const Json *type = json_get(entry, "dtype"), *shape = json_get(entry, "shape");
    const Json *offsets = json_get(entry, "data_offsets");
    if (!type || type->type != '"' || !shape || shape->type != '[' || !offsets ||
        offsets->type != '[' || offsets->count != 2)
        die("%s: tensor '%.60s': expected dtype, shape and two data_offsets", r->path, name);
    while (number_types[s.type].name && strcmp(number_types[s.type].name, type->text)) s.type++;
    if (!number_types[s.type].name)
        die("%s: tensor '%.60s': the type '%.20s' is unknown", r->path, name, shown(type->text));
    size_t each = number_types[s.type].bytes, bytes = each, most = r->size - data;
    for (const Json *d = shape->child; d; d = d->next) {
        size_t n = json_whole(d, r->path, "a shape"), used = strlen(s.shape);
        snprintf(s.shape + used, sizeof s.shape - used, used ? ",%zu" : "%zu", n);
        if (n > INT32_MAX || __builtin_mul_overflow(bytes, n, &bytes))
            die("%s: tensor '%.60s': the shape is too large for any file", r->path, name);
    }
    s.from = json_whole(offsets->child, r->path, "data_offsets");
    s.to = json_whole(offsets->child->next, r->path, "data_offsets");
    if (s.from > s.to || s.to > most || s.to - s.from != bytes)
        die("%s: tensor '%.60s' is at bytes %zu to %zu of the data, which have %zu, and its shape "
            "needs %zu: it is damaged or truncated", r->path, name, s.from, s.to, most, bytes);
    s.from += data, s.to += data, s.count = bytes / each;
    return s;
}

/* For qsort: by position in the file. Of tensors that do not overlap, the earlier has the smaller
 * sum of begin and end, even if one of them is empty. */
int stored_order(const void *a, const void *b)
{
    const Stored *s = a, *t = b;
    return (s->from + s->to > t->from + t->to) - (s->from + s->to < t->from + t->to);
}

/* Find the model's shape in those of its tensors. */
void weights_shape(Weights *w)
{
    const Stored *wte = weights_find(w, "wte.weight"), *wpe = weights_find(w, "wpe.weight");
    Config *c = &w->c;
    if (!wte || !wpe || sscanf(wte->shape, "%d,%d", &c->V, &c->C) != 2 ||
        sscanf(wpe->shape, "%d,%*d", &c->T) != 1)
        die("%s: expected wte.weight and wpe.weight in two dimensions: this is no GPT-2", w->path);
    c->Vp = c->V, c->NH = 1;
    for (int i = 0; i < w->count; i++) {
        int layer = -1;
        sscanf(w->entry[i].name, "h.%5d.", &layer);    /* 5 digits are enough to be refused */
        c->L = max_int(c->L, layer + 1);
    }
    config_check(*c, w->path);
}

/* Find for every tensor in the files the one of the model that it is. Dies unless each of the
 * model's is there once, in its shape and in numbers that can be read, and nothing else but masks
 * and a head. */
void weights_match(Weights *w, Weights model)
{
    const char *path = w->path;
    int heads = 0;
    for (Stored *s = w->entry; s < w->entry + w->count; s++) {
        int head = !strcmp(s->name, "lm_head.weight");
        Stored *e = weights_find(&model, head ? "wte.weight" : s->name);
        if (ends_with(s->name, ".attn.bias") || ends_with(s->name, ".attn.masked_bias")) continue;
        if (!e) die("%s: GPT-2 has no tensor '%.60s'", path, s->name);
        if (s->type >= READABLE)
            die("%s: tensor %s: expected numbers in F32, F16 or BF16, found %s", path, s->name,
                number_types[s->type].name);
        if (strcmp(s->shape, e->shape))
            die("%s: tensor %s: expected the shape [%s], found [%s]", path, s->name, e->shape,
                s->shape);
        if (head ? heads++ : e->tensor < 0) die("%s: tensor '%.60s' is there twice", path, s->name);
        if (head) continue;
        s->tensor = e->tensor, s->layer = e->layer, s->rows = e->rows;
        e->tensor = -1;                                /* it has been found */
    }
    for (const Stored *e = model.entry; e < model.entry + model.count; e++)
        if (e->tensor >= 0) die("%s: tensor %s is missing", path, e->name);
}

/* Add the tensors of another file, which must cover its data. The file stays open. */
void weights_add(Weights *w, const char *path)
{
    Reader *r = allocate(1, sizeof *r);
    uint64_t header;
    *r = reader_open(path);
    reader_get(r, &header, sizeof header);
    if (header > r->size - r->at)
        die("%s: expected a safetensors file, found one that is damaged or something else: its "
            "header would have %" PRIu64 " bytes, %zu follow", path, header, r->size - r->at);
    Json *json = json_read(r, header);
    size_t at = r->at;
    w->entry = reallocate(w->entry, w->count + json->count, sizeof *w->entry);
    Stored *first = w->entry + w->count;
    for (Json *entry = json->child; entry; entry = entry->next)
        if (strcmp(entry->key, "__metadata__")) w->entry[w->count++] = stored_read(r, entry, at);
    qsort(first, w->entry + w->count - first, sizeof *first, stored_order);
    for (const Stored *s = first; s < w->entry + w->count; at = s++->to)
        if (s->from != at)
            die("%s: the bytes before %zu belong to %s", path, s->from > at ? s->from : at,
                s->from > at ? "no tensor" : "two tensors");
    if (at != r->size) die("%s: the last %zu bytes belong to no tensor", path, r->size - at);
}

/* Add the files that an index names, which must be beside it, each once. */
void weights_index(Weights *w)
{
    const Json *map = json_get(json_file(w->path), "weight_map");
    if (!map) die("%s: expected a weight_map, which names files", w->path);
    for (const Json *m = map->child; m; m = m->next) {
        int i = 0;
        if (m->type != '"' || strchr(m->text, '/'))
            die("%s: expected a weight_map that names files in the same folder", w->path);
        char *path = file_beside(w->path, m->text);
        if (!path) die("%s: names %.60s, which is not there", w->path, shown(m->text));
        while (i < w->count && strcmp(w->entry[i].file->path, path)) i++;
        if (i == w->count) weights_add(w, path);
    }
}

/* Open a model in one file, or in those that an index names, and check all that is said above, but
 * for the values. */
Weights weights_open(const char *path)
{
    Weights w = {.path = path};
    if (ends_with(path, ".json")) weights_index(&w);
    else weights_add(&w, path);
    weights_shape(&w);
    weights_match(&w, weights_expected(w.c, F32));
    return w;
}

/* ================================================================================================
 * 4. Import
 *
 * Tensors are read one by one, and those of linear layers are transposed. A model file of llm.c is
 * one of ours already.
 */

/* IEEE half precision: a sign, 5 bits of exponent, 10 of fraction. Exponent and fraction, moved to
 * where a float has them, make a number that is too small by 2^112, since the exponents' biases are
 * 15 and 127; this holds for subnormal numbers, too. The highest exponent means infinity or NaN. */
static inline float f16_to(uint16_t x)
{
    union { uint32_t i; float f; } u = {(x & 0x7fffu) << 13};
    u.f *= 0x1p112f;
    if (u.f >= 0x1p16f) u.i |= 0x7f800000;
    u.i |= (x & 0x8000u) << 16;
    return u.f;
}

/* All numbers of a tensor in the order of the file, in new memory that free_reals releases. */
real *stored_numbers(const Stored *s)
{
    real *x = allocate_reals(s->count);
    reader_seek(s->file, s->from);
    if (s->type == F16) {
        uint16_t *half = reallocate(NULL, s->count, sizeof *half);
        reader_get(s->file, half, s->count * sizeof *half);
        for (size_t i = 0; i < s->count; i++) x[i] = f16_to(half[i]);
        free(half);
    } else read_reals(s->file, x, NULL, s->count, s->type == BF16);
    return x;
}

/* y(columns, rows) = x(rows, columns) transposed, in squares that fit into the cache. With one
 * row, or one column, it is a copy. */
void matrix_transpose(real *y, const real *x, size_t rows, size_t columns)
{
    enum { SIDE = 32 };
    for (size_t i0 = 0; i0 < rows; i0 += SIDE)
        for (size_t j0 = 0; j0 < columns; j0 += SIDE)
            for (size_t j = j0; j < j0 + SIDE && j < columns; j++)
                for (size_t i = i0; i < i0 + SIDE && i < rows; i++)
                    y[j * rows + i] = x[i * columns + j];
}

/* The first parameter of a tensor in the model. (Behind those of wte, padding may follow.) */
real *stored_parameters(const Model *m, const Stored *s)
{
    return m->w.tensor[s->tensor] + s->layer * m->tensors[s->tensor].size;
}

/* Read the parameters of m that the files hold, which are all, and check them. */
void weights_read(Model *m, const Weights *w)
{
    for (const Stored *s = w->entry; s < w->entry + w->count; s++) {
        if (s->tensor < 0) continue;                   /* a mask or a head */
        real *x = stored_numbers(s);
        matrix_transpose(stored_parameters(m, s), x, s->count / s->rows, s->rows);
        free_reals(x);
    }
    params_check(m, w->path);
}

/* The shape of our model: that of the weights at path, with V padded to a multiple of 128 as in
 * llm.c. Takes from config.json the number of heads, which no shape tells, and checks it against
 * the weights. What it does not mention is as in GPT-2. */
Config config_complete(Config c, const char *path)
{
    char *config = file_beside(path, "config.json");
    c.NH = c.C / 64, c.Vp = (c.V + 127) / 128 * 128;
    if (!config && c.C % 64)
        die("%s: no config.json is beside it to tell the number of heads, and %d channels are no "
            "multiple of 64, the size of GPT-2's heads", path, c.C);
    if (config) {
        char *wanted = format(JSON_TEXT({
            "model_type": "gpt2", "activation_function": ["gelu_new", "gelu_pytorch_tanh"],
            "layer_norm_epsilon": 1e-5, "vocab_size": %d, "n_positions": %d, "n_embd": %d,
            "n_layer": %d, "n_inner": %d, "scale_attn_weights": true,
            "scale_attn_by_inverse_layer_idx": false, "reorder_and_upcast_attn": false,
            "add_cross_attention": false}), c.V, c.T, c.C, c.L, 4 * c.C);
        const Json *json = json_file(config);
        json_must(json, wanted, config, "only GPT-2 is imported, and its config must fit its "
                  "weights");
        size_t heads = json_whole(json_get(json, "n_head"), config, "n_head");
        c.NH = heads < 1 << 16 ? (int)heads : 0;
    } else printf("%s: no config.json: taking heads of 64 channels, as in GPT-2: %d\n", path, c.NH);
    config_check(c, config ? config : path);
    return c;
}

/* Read a model from safetensors. Dies if there is a head that differs from wte. */
Model *safetensors_read(const char *path)
{
    Weights w = weights_open(path);
    Model *m = model_new(config_complete(w.c, path));
    weights_read(m, &w);
    const Stored *head = weights_find(&w, "lm_head.weight");
    real *x = head ? stored_numbers(head) : NULL;
    for (size_t i = 0; head && i < head->count; i++)
        if (x[i] != m->w.wte[i])
            die("%s: lm_head.weight differs from wte.weight at number %zu (%g, %g); GPT-2 has one "
                "tensor for both", path, i, (double)x[i], (double)m->w.wte[i]);
    return m;
}

/* Read a model from a file of safetensors, of llm.c or ours, or from a folder with safetensors.
 * Dies if it is in a format that only Python reads. */
Model *model_import(const char *path)
{
    static const char *const foreign[] = {".bin", ".pt", ".pth", ".h5", ".msgpack"};
    int32_t magic = 0;
    char *file = is_folder(path) ? file_beside(path, "model.safetensors") : format("%s", path);
    if (!file) file = file_beside(path, "model.safetensors.index.json");
    Reader r = file ? reader_open(file) : (Reader){0};
    if (r.size >= sizeof magic) reader_get(&r, &magic, sizeof magic);
    if (magic == MODEL_MAGIC) return model_read(file);
    for (int i = 0; i < 5; i++)
        if (!file || ends_with(file, foreign[i]))
            die("%s: only safetensors are read. In a model's folder, where config.json is, this "
                "writes model.safetensors: python3 -c \"from transformers import GPT2LMHeadModel "
                "as M; M.from_pretrained('.').save_pretrained('.')\" (for a model of TensorFlow or "
                "Flax with transformers 4, and from_tf=True or from_flax=True after '.')", path);
    return safetensors_read(file);
}

/* The vocabulary in a model's folder, and a line that says which; NULL, and what to do, if there is
 * none. tokenizer.json comes first, since it also tells what vocab.json does not. */
Tokenizer *folder_vocabulary(const char *folder)
{
    char *json = file_beside(folder, "tokenizer.json"), *vocab = file_beside(folder, "vocab.json");
    char *merges = file_beside(folder, "merges.txt");
    if (json || (vocab && merges)) {
        printf("%s: the vocabulary is that of %s\n", folder,
               json ? "tokenizer.json" : "vocab.json and merges.txt");
        return json ? tokenizer_json_read(json) : vocabulary_read(vocab, merges);
    }
    printf("%s: no vocabulary is imported: neither tokenizer.json is there nor vocab.json with "
           "merges.txt. If the model's is GPT-2's own, use data/gpt2_tokenizer.bin\n", folder);
    return NULL;
}

int peft_import(const char *folder, const char *path);        /* chapter 5 */

/* Import a vocabulary; or a model, and the vocabulary if that is in its folder. */
int command_import(int words, char **word)
{
    char *adapters = is_folder(*word) ? file_beside(*word, "adapter_model.safetensors") : NULL;
    if (adapters) return peft_import(*word, adapters);
    int vocabulary = words == 2 || ends_with(word[0], "tokenizer.json");
    Model *m = vocabulary ? NULL : model_import(word[0]);
    Tokenizer *t = words == 2 ? vocabulary_read(word[0], word[1])
                 : vocabulary ? tokenizer_json_read(word[0])
                 : is_folder(word[0]) ? folder_vocabulary(word[0]) : NULL;
    int length = (int)strlen(prep.out) - (m && ends_with(prep.out, ".bin") ? 4 : 0);
    char *path = format("%.*s%s", length, prep.out, m ? "_tokenizer.bin" : "");
    writers_begin();
    if (t) {
        tokenizer_write(t, path);
        printf("%s: %d tokens, end of text %d\n", path, t->count, t->end_of_text);
    }
    if (m) {
        Config c = m->c;
        double millions = (m->count - (double)(c.Vp - c.V) * c.C) / 1e6;
        model_write(m, prep.out, prep.bf16);
        printf("%s: %.1f million parameters, %d layers, %d heads, %d channels, context %d, "
               "vocabulary %d, %s\n", prep.out, millions, c.L, c.NH, c.C, c.T, c.V,
               prep.bf16 ? "bf16" : "fp32");
        if (t && t->count != c.V)
            printf("%d tokens, vocabulary %d: %s\n", t->count, c.V,
                   t->count < c.V && t->count + SPARE_IDS > c.V ? "ids without a token are kept, "
                   "but never generated" : "these cannot be used together");
    }
    writers_commit();
    return 0;
}

/* ================================================================================================
 * 5. Export
 *
 * A folder as transformers writes it. The list of tensors that is printed as the header of
 * model.safetensors then also directs the writing of the data.
 */

/* Write the listed tensors of m to folder/name, with a prefix before the name of each; spaces fill
 * the header up to a multiple of 8 bytes. */
void safetensors_write(const Model *m, Weights file, const char *prefix, const char *folder,
                       const char *name)
{
    Writer *w = writer_in(folder, name);
    Text header = {0};
    text_print(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (const Stored *s = file.entry; s < file.entry + file.count; s++)
        text_print(&header, ",\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                   "\"data_offsets\":[%zu,%zu]}", prefix, s->name, number_types[s->type].name,
                   s->shape, s->from, s->to);
    text_add(&header, "}       ", 1 + (7 - header.size % 8));
    writer_put(w, &(uint64_t){header.size}, 8);
    writer_put(w, header.bytes, header.size);
    for (const Stored *s = file.entry; s < file.entry + file.count; s++) {
        real *x = allocate_reals(s->count);
        matrix_transpose(x, stored_parameters(m, s), s->rows, s->count / s->rows);
        write_reals(w, x, s->count, s->type == BF16);
        free_reals(x);
    }
    writer_close(w);
}

/* Write the small files that tell transformers what the large ones are. */
void configs_write(const Config *c, const Tokenizer *t, const char *folder, int bf16)
{
    int end = t->end_of_text;
    char word[WORD];
    size_t size = word_from_token(word, t, end);
    text_write(format("%s/config.json", folder), format(JSON_TEXT({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": %d,
        "n_positions": %d, "n_embd": %d, "n_layer": %d, "n_head": %d,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05,
        "tie_word_embeddings": true, "bos_token_id": %d, "eos_token_id": %d,
        "torch_dtype": "%s"}) "\n", c->V, c->T, c->C, c->L, c->NH, end, end,
        bf16 ? "bfloat16" : "float32"));
    text_write(format("%s/generation_config.json", folder),
               format(JSON_TEXT({"bos_token_id": %d, "eos_token_id": %d}) "\n", end, end));
    Writer *w = writer_in(folder, "tokenizer_config.json");
    writer_print(w, "{\"tokenizer_class\": \"GPT2Tokenizer\", \"model_max_length\": %d", c->T);
    for (int i = 0; i < 3; i++) {
        writer_print(w, ", \"%s_token\": ", i == 0 ? "bos" : i == 1 ? "eos" : "unk");
        json_write_string(w->file, word, size);
    }
    writer_print(w, ", \"add_prefix_space\": false}\n");
    writer_close(w);
}

/* ---- adapters, as PEFT stores them: A(rank, in) and B(out, rank) of each matrix in each layer,
 * under the name of the matrix; and adapter_config.json, which says what they are [PEFT] ---- */

/* Write the adapters of a model into a folder. */
int peft_export(const char *model)
{
    static const char *const modules[] = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
    Text on = {0};
    if (!prep.adapter) die_usage("export --peft: expected --adapter, the file to write as PEFT's");
    Model *m = model_read(model);
    adapter_read(m, prep.adapter);
    make_folder(prep.out);
    writers_begin();
    for (int i = 0; i < ADAPTED; i++)
        if (m->adapter.on >> i & 1) text_print(&on, "%s\"%s\"", on.size ? ", " : "", modules[i]);
    text_write(format("%s/adapter_config.json", prep.out), format(JSON_TEXT({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": null,
        "r": %d, "lora_alpha": %.17g, "lora_dropout": 0.0, "fan_in_fan_out": true,
        "bias": "none", "use_rslora": false, "use_dora": false, "inference_mode": true,
        "target_modules": [%s]}) "\n", m->adapter.rank, m->adapter.alpha, on.bytes));
    safetensors_write(m, tensors_listed(m->tensors, TENSORS, ALL_TENSORS, m->c.L, F32),
                      "base_model.model.transformer.", prep.out, "adapter_model.safetensors");
    writers_commit();
    printf("%s: adapter_model.safetensors, adapter_config.json\n", prep.out);
    return 0;
}

/* What adapter_config.json says of rank and alpha. Dies if it wants more than LoRA on matrices. */
Adapter peft_config(const char *path)
{
    static const char wanted[] = JSON_TEXT({
        "peft_type": "LORA", "bias": "none", "use_dora": false, "use_qalora": false,
        "modules_to_save": null, "layers_to_transform": null, "rank_pattern": null,
        "alpha_pattern": null, "layer_replication": null, "alora_invocation_tokens": null});
    Json *json = json_file(path), *alpha = json_get(json, "lora_alpha");
    Json *scaled = json_get(json, "use_rslora");
    json_must(json, wanted, path, "this kind of adapter is not read");
    size_t rank = json_whole(json_get(json, "r"), path, "r");
    if (!alpha || alpha->type != '0' || !(alpha->number > 0))
        die("%s: lora_alpha: expected a number above 0", path);
    double factor = scaled && scaled->type == 't' ? sqrt((double)rank) : 1;     /* rsLoRA */
    return (Adapter){.alpha = alpha->number * factor, .rank = rank < 1 << 16 ? (int)rank : 0};
}

/* Import PEFT's adapters of the model --model from a folder. */
int peft_import(const char *folder, const char *path)
{
    char *config = file_beside(folder, "adapter_config.json");
    if (!config) die("%s: adapter_config.json is missing", folder);
    if (!prep.model) die_usage("import: expected --model, what the adapters were trained on");
    Model *m = model_read(prep.model);
    Weights w = {.path = path};
    Adapter a = peft_config(config);
    a.base = model_fingerprint(m);
    weights_add(&w, path);
    adapters_describe(m->c, (Adapter){.rank = 1, .on = (1 << ADAPTED) - 1}, m->tensors + TENSORS);
    for (int i = 0; i < ADAPTED; i++) {
        char *first = format(m->tensors[TENSORS + 2 * i].name, 0);
        a.on |= (weights_find(&w, first) != NULL) << i;
    }
    if (!a.on || a.rank < 1 || a.rank > m->c.C)
        die("%s: expected adapters of h.0 with a rank of 1 to %d, found rank %d", path, m->c.C,
            a.rank);
    model_adapt(m, a, 0);
    weights_match(&w, tensors_listed(m->tensors, TENSORS, ALL_TENSORS, m->c.L, F32));
    weights_read(m, &w);
    adapter_write(m, prep.out);
    printf("%s: adapters of rank %d, %zu numbers\n", prep.out, a.rank, m->adapter_count);
    return 0;
}

/* ---- GGUF: one file for llama.cpp and programs that are built on it [GGUF] ----
 *
 * A header with the counts of what follows; keys with values, among them the vocabulary; for each
 * tensor its name, shape, type and place; then the data. Both the data as a whole and each tensor
 * begin at a multiple of ALIGNMENT. A shape names the columns first, so matrices stay as they are.
 * The head is wte, which the file need not repeat.
 */

enum { ALIGNMENT = 32 };
enum { GGUF_U32 = 4, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY };

/* In the order of PARAMETERS. */
const char *const gguf_names[TENSORS] = {
    "token_embd.weight", "position_embd.weight", "blk.%d.attn_norm.weight", "blk.%d.attn_norm.bias",
    "blk.%d.attn_qkv.weight", "blk.%d.attn_qkv.bias", "blk.%d.attn_output.weight",
    "blk.%d.attn_output.bias", "blk.%d.ffn_norm.weight", "blk.%d.ffn_norm.bias",
    "blk.%d.ffn_up.weight", "blk.%d.ffn_up.bias", "blk.%d.ffn_down.weight", "blk.%d.ffn_down.bias",
    "output_norm.weight", "output_norm.bias"
};

/* turns_encode, for programs that render a template [Jinja]. A text begins with the end of text:
 * llama-cpp-python does not add it to a conversation; llama.cpp leaves out the second of two. */
const char chat_template[] =
    "{{ bos_token }}{% for m in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{% if m['role'] == 'system' %}System:{% elif m['role'] == 'user' %}User:"
    "{% elif m['role'] == 'assistant' %}Assistant:"
    "{% else %}{{ raise_exception('role: expected system, user or assistant') }}{% endif %}"
    "{{ ' ' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{% if messages %}{{ '\\n' }}{% endif %}Assistant:{% endif %}";

/* Half precision: round to the nearest, ties to even, as bf16_from does. Below 2^-14 the last place
 * is always 2^-24, which is that of a float in [0.5, 1): adding 0.5 rounds to it. From 65520 on the
 * result is infinity. */
static inline uint16_t f16_from(float x)
{
    union { float f; uint32_t i; } u = {x};
    uint32_t sign = u.i >> 16 & 0x8000, size = u.i &= 0x7fffffff;
    if (size >= 0x47800000) return sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00);
    if (size < 0x38800000) u.f += 0.5f, u.i -= 0x3f000000;
    else u.i = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    return sign | u.i;
}

/* A block of Q8_0: numbers about scale * q, where the largest has |q| = 127. */
typedef struct { uint16_t scale; int8_t q[Q8_BLOCK]; } Q8Block;

Q8Block q8_from(const real *x)
{
    Q8Block b;
    float most = 0;
    for (int i = 0; i < Q8_BLOCK; i++) most = fmaxf(most, fabsf((float)x[i]));
    float scale = most / 127, inverse = scale ? 1 / scale : 0;
    b.scale = f16_from(scale);
    for (int i = 0; i < Q8_BLOCK; i++) b.q[i] = (int8_t)roundf((float)x[i] * inverse);
    return b;
}

/* The tensors of m as the file has them: names, types, places in the data. Of wte, the rows of the
 * first `tokens` ids; matrices in `type`, but in F16 if their rows cannot be divided into blocks;
 * all else in F32. */
Weights gguf_tensors(const Model *m, int tokens, int type)
{
    Config c = m->c;
    c.V = tokens;
    Weights w = weights_expected(c, F32);
    size_t at = 0;
    for (Stored *s = w.entry; s < w.entry + w.count; s++) {
        int matrix = s->tensor == 0 || s->rows > 1, columns = m->tensors[s->tensor].columns;
        s->type = !matrix ? F32 : columns % number_types[type].block ? F16 : type;
        s->from = at;
        s->to = at += s->count / number_types[s->type].block * number_types[s->type].bytes;
        at = (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        s->name = format(gguf_names[s->tensor], s->layer);
    }
    return w;
}

/* Write the numbers x of a tensor. Dies if one is too large for the tensor's type. */
void gguf_numbers(Writer *w, const Stored *s, const real *x)
{
    size_t block = number_types[s->type].block;
    int as_is = s->type == F32 || s->type == BF16;
    if (as_is) write_reals(w, x, s->count, s->type == BF16);
    for (size_t i = 0; !as_is && i < s->count; i += block) {
        Q8Block b = s->type == Q8_0 ? q8_from(x + i) : (Q8Block){f16_from((float)x[i]), {0}};
        if ((b.scale & 0x7fff) == 0x7c00)
            die("%s: %s: number %zu is %g, too large for %s: give --type bf16 or f32", w->path,
                s->name, i, (double)x[i], number_types[s->type].name);
        writer_put(w, &b, number_types[s->type].bytes);
    }
}

/* A text has its length before it, and no zero byte behind. */
void gguf_text(Text *t, const char *text, size_t size)
{
    text_add(t, (char *)&(uint64_t){size}, 8);
    text_add(t, text, size);
}

/* Append a key whose value is a list of `count` values of a type. */
void gguf_list(Text *head, const char *name, uint32_t type, uint64_t count, Text values)
{
    gguf_text(head, name, strlen(name));
    text_add(head, (char *)&(uint32_t){GGUF_ARRAY}, 4);
    text_add(head, (char *)&type, 4);
    text_add(head, (char *)&count, 8);
    text_add(head, values.bytes, values.size);
}

/* Append the tokens, what kinds they are (1 normal, 3 control), and the merges: three keys. */
void gguf_vocabulary(Text *head, const Tokenizer *t)
{
    Text tokens = {0}, kinds = {0}, merges = {0};
    char word[2 * WORD];
    int merge_count = 0;
    for (int id = 0; id < t->count; id++) {
        gguf_text(&tokens, word, word_from_token(word, t, id));
        text_add(&kinds, (char *)&(int32_t){id == t->end_of_text ? 3 : 1}, 4);
        if (!merge_line(word, t, id)) continue;
        gguf_text(&merges, word, strlen(word));
        merge_count++;
    }
    gguf_list(head, "tokenizer.ggml.tokens", GGUF_STRING, t->count, tokens);
    gguf_list(head, "tokenizer.ggml.token_type", GGUF_I32, t->count, kinds);
    gguf_list(head, "tokenizer.ggml.merges", GGUF_STRING, merge_count, merges);
}

/* Append all keys that llama.cpp reads of a GPT-2 of shape c; returns how many. Every text begins
 * with the end of text, as it does here. */
uint64_t gguf_keys(Text *head, const Config *c, const Tokenizer *t, const char *name, int type)
{
    const uint32_t end = t->end_of_text, epsilon = 0x3727c5ac;      /* the bits of 1e-5f */
    const struct { const char *key, *text; uint32_t type, number; } rows[] = {
        {"general.architecture", "gpt2", GGUF_STRING, 0}, {"general.name", name, GGUF_STRING, 0},
        {"general.alignment", NULL, GGUF_U32, ALIGNMENT},
        {"general.quantization_version", NULL, GGUF_U32, 2},
        {"general.file_type", NULL, GGUF_U32, number_types[type].gguf_file},
        {"gpt2.context_length", NULL, GGUF_U32, c->T},
        {"gpt2.embedding_length", NULL, GGUF_U32, c->C},
        {"gpt2.feed_forward_length", NULL, GGUF_U32, 4 * c->C},
        {"gpt2.block_count", NULL, GGUF_U32, c->L},
        {"gpt2.attention.head_count", NULL, GGUF_U32, c->NH},
        {"gpt2.attention.layer_norm_epsilon", NULL, GGUF_F32, epsilon},
        {"tokenizer.ggml.model", "gpt2", GGUF_STRING, 0},
        {"tokenizer.ggml.pre", "gpt-2", GGUF_STRING, 0},
        {"tokenizer.ggml.bos_token_id", NULL, GGUF_U32, end},
        {"tokenizer.ggml.eos_token_id", NULL, GGUF_U32, end},
        {"tokenizer.ggml.unknown_token_id", NULL, GGUF_U32, end},
        {"tokenizer.ggml.add_bos_token", NULL, GGUF_BOOL, 1},
        {"tokenizer.chat_template", chat_template, GGUF_STRING, 0}};
    int count = sizeof rows / sizeof *rows;
    for (int i = 0; i < count; i++) {
        gguf_text(head, rows[i].key, strlen(rows[i].key));
        text_add(head, (char *)&rows[i].type, 4);
        if (rows[i].text) gguf_text(head, rows[i].text, strlen(rows[i].text));
        else text_add(head, (char *)&rows[i].number, rows[i].type == GGUF_BOOL ? 1 : 4);
    }
    gguf_vocabulary(head, t);
    return count + 3;
}

/* Write the file at path, with the rows of wte that have a token. */
void gguf_write(const Model *m, const Tokenizer *t, const char *path, int type)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *name = format("%.*s", (int)strlen(base) - 5, base);      /* without .gguf */
    const char zeros[ALIGNMENT] = {0};                 /* -n % ALIGNMENT of them follow n bytes */
    Text head = {0};
    Weights file = gguf_tensors(m, t->count, type);
    uint64_t counts[] = {file.count, gguf_keys(&head, &m->c, t, name, type)};
    for (const Stored *s = file.entry; s < file.entry + file.count; s++) {
        uint64_t columns = m->tensors[s->tensor].columns, shape[] = {columns, s->count / columns};
        uint32_t dimensions = strchr(s->shape, ',') ? 2 : 1;
        gguf_text(&head, s->name, strlen(s->name));
        text_add(&head, (char *)&dimensions, 4);
        text_add(&head, (char *)shape, 8 * dimensions);
        text_add(&head, (char *)&number_types[s->type].gguf, 4);
        text_add(&head, (char *)&(uint64_t){s->from}, 8);
    }
    Writer *w = writer_open(path);
    writer_put(w, "GGUF\3\0\0\0", 8);                  /* 3 is the version, a number of 4 bytes */
    writer_put(w, counts, sizeof counts);
    writer_put(w, head.bytes, head.size);
    writer_put(w, zeros, -(8 + sizeof counts + head.size) % ALIGNMENT);
    for (const Stored *s = file.entry; s < file.entry + file.count; s++) {
        gguf_numbers(w, s, stored_parameters(m, s));
        writer_put(w, zeros, -s->to % ALIGNMENT);
    }
    writer_close(w);
}

/* Write a folder for transformers, which would prefer an old tokenizer.json to what is written. */
void folder_write(const Model *m, const Tokenizer *t, const char *folder, int bf16)
{
    make_folder(folder);
    if (file_beside(folder, "tokenizer.json"))
        die("%s: holds a tokenizer.json, which transformers would read instead of the new "
            "vocab.json; remove it, or name another folder", folder);
    writers_begin();
    configs_write(&m->c, t, folder, bf16);
    vocabulary_write(t, folder);
    safetensors_write(m, weights_expected(m->c, bf16 ? BF16 : F32), "transformer.", folder,
                      "model.safetensors");
    writers_commit();
    printf("%s: model.safetensors (%s), config.json, generation_config.json, vocab.json, "
           "merges.txt, tokenizer_config.json\n", folder, bf16 ? "BF16" : "F32");
}

int command_export(int words, char **word)
{
    (void)words;
    const char *name = prep.type ? prep.type : prep.bf16 ? "bf16" : "f32";
    if (prep.peft && prep.type) die_usage("--type does not belong to --peft");
    if (prep.peft) return peft_export(word[0]);
    int gguf = ends_with(prep.out, ".gguf"), type = 0;
    while (type <= Q8_0 && strcasecmp(number_types[type].name, name)) type++;
    if (type > Q8_0 || (prep.bf16 && type != BF16) || (!gguf && type != F32 && type != BF16))
        die_usage("--type: expected f32 or bf16, for a .gguf file also f16 or q8_0, found '%s'%s",
                  name, prep.bf16 ? " and --bf16" : "");
    Tokenizer *t = tokenizer_read(prep.tokenizer);
    Model *m = model_load(word[0], prep.adapter);
    tokenizer_fit(m, t, prep.tokenizer);
    spellings_check(t, prep.tokenizer);
    m->c.V = m->stored_V;                              /* all rows are kept */
    if (gguf) {
        gguf_write(m, t, prep.out, type);
        printf("%s: GGUF, %d tokens, matrices in %s%s\n", prep.out, t->count, name, type == Q8_0 &&
               m->c.C % Q8_BLOCK ? " (f16 where rows cannot be divided into blocks of 32)" : "");
    } else folder_write(m, t, prep.out, type == BF16);
    return 0;
}

/* ================================================================================================
 * 6. Download
 *
 * The user's own curl fetches one file, under a temporary name until it is complete. When the
 * connection breaks, the next try, or the next run of this command, goes on from what has arrived.
 * The file is then imported like any other and removed.
 */

const struct { const char *name, *address, *size; int layers, megabytes; } published[] = {
    {"small", "gpt2", "124M", 12, 548},         {"medium", "gpt2-medium", "355M", 24, 1520},
    {"large", "gpt2-large", "774M", 36, 3247},  {"xl", "gpt2-xl", "1558M", 48, 6432}
};

/* Fetch url to the file at path, going on from what is there. Redirections may use only https and
 * the protocol of url. Rejected: curl's --retry, whose tries all begin where the first one began,
 * so that what has arrived in between is lost. */
void curl(const char *url, const char *path)
{
    enum { TRIES = 5, REFUSED = 22, CANNOT_RESUME = 33, NO_PROGRAM = 127, KILLED = 128 };
    char *protocols = format("=https,%.*s", (int)strcspn(url, ":"), url);
    char *words[] = {"curl", "--fail", "--location", "--progress-bar", "--create-dirs", "--proto",
                     protocols, "--connect-timeout", "30", "--speed-limit", "1", "--speed-time",
                     "60", "--continue-at", "-", "--output", (char *)path, "--url", (char *)url,
                     NULL};
    for (int status, tries = 1; (status = run_program(words)) != 0; tries++) {
        if (status == NO_PROGRAM)
            die("curl is not installed: install it, or fetch %s in another way and import it", url);
        if (status == CANNOT_RESUME) unlink(path);
        if (status == REFUSED || status == KILLED || tries == TRIES)
            die("%s: curl ended with status %d; run this again to go on with what has arrived in "
                "%s, or remove that to begin anew", url, status, path);
        fprintf(stderr, "curl ended with status %d, trying again\n", status);
        sleep(1);
    }
}

int command_gpt2(int words, char **word)
{
    const char *name = words ? *word : "small";
    size_t i = 0, most = sizeof published / sizeof *published;
    while (i < most && strcmp(published[i].name, name)) i++;
    if (i == most) die_usage("gpt2: expected small, medium, large or xl, found '%s'", name);
    char *out = prep.out ? format("%s", prep.out) : format("data/gpt2_%s.bin", published[i].size);
    char *file = format("%s.safetensors", out), *partial = format("%s.partial", file);
    char *url = format("%s/%s/resolve/main/model.safetensors", prep.url, published[i].address);
    if (access(out, F_OK) == 0) die("%s is there already; remove it to fetch it again", out);
    if (access(file, F_OK) != 0) {
        printf("%s: %d MB to fetch\n", url, published[i].megabytes);
        curl(url, partial);
        if (rename(partial, file) != 0) die("%s: %s", file, strerror(errno));
    }
    printf("%s has arrived; if it is refused, remove it\n", file);
    int layers = weights_open(file).c.L;
    if (layers != published[i].layers)
        die("%s: expected %d layers, found %d", file, published[i].layers, layers);
    prep.out = out;
    command_import(1, &file);
    unlink(file);
    return 0;
}

/* ================================================================================================
 * 7. Evaluation
 *
 * A figure measured on held-out examples depends on which examples these are. So each figure comes
 * with an interval: the examples are drawn again a thousand times, with repetition, and the
 * interval holds the middle 95% of the thousand results: the bootstrap [Efron 1979]. Two models are
 * compared on the same draws, so that the choice of examples changes both in the same way.
 * Rejected: formulas for intervals, which need one derivation for each measure.
 * Models, data, answers and tables are kept until the program ends; no function frees them.
 */

typedef struct { double value, low, high; } Interval;
typedef double Statistic(const void *data, const int *rows, int n);      /* of n chosen rows */

/* The statistic of rows 0..n-1, and its 95% interval from 1000 draws of n rows. */
Interval bootstrap(Statistic *statistic, const void *data, int n, uint64_t seed)
{
    enum { DRAWS = 1000 };
    double draws[DRAWS];
    int *rows = allocate(n, sizeof(int));
    for (int i = 0; i < n; i++) rows[i] = i;
    double value = statistic(data, rows, n);
    for (int d = 0; d < DRAWS; d++) {
        for (int i = 0; i < n; i++) rows[i] = random_bits(random_key(seed, d), i) % n;
        draws[d] = statistic(data, rows, n);
    }
    qsort(draws, DRAWS, sizeof *draws, by_value);
    free(rows);
    return (Interval){value, draws[DRAWS / 40], draws[DRAWS - 1 - DRAWS / 40]};
}

/* sum(numerator) / sum(denominator); without a denominator, the mean of the numerator. */
typedef struct { const double *numerator, *denominator; } Ratio;
double ratio(const void *data, const int *rows, int n)
{
    const Ratio *r = data;
    double above = 0, below = 0;
    for (int i = 0; i < n; i++) {
        above += r->numerator[rows[i]];
        below += r->denominator ? r->denominator[rows[i]] : 1;
    }
    return below ? above / below : NAN;
}
double ratio_exp(const void *d, const int *rows, int n) { return exp(ratio(d, rows, n)); }
double ratio_bits(const void *d, const int *rows, int n) { return ratio(d, rows, n) / log(2); }

/* By how much b exceeds a, both measured on the same rows. */
typedef struct { Ratio a, b; } Gain;
double gain(const void *data, const int *rows, int n)
{
    const Gain *g = data;
    return ratio(&g->b, rows, n) - ratio(&g->a, rows, n);
}

/* ---- tables: printed, and written as records for the report, one JSON object a line ---- */

typedef struct {
    const char *title, *kind, *note;                     /* kind: NULL, or as page_table says */
    int columns, rows, count;                            /* count: of cells so far */
    char **cells;                                        /* (rows, columns), each in new memory */
} Table;

/* Add one cell, the text of printf, without control characters. t->columns must be set. */
__attribute__((format(printf, 2, 3)))
void table_cell(Table *t, const char *form, ...)
{
    va_list args;
    t->cells = grow(t->cells, t->count, sizeof *t->cells);
    va_start(args, form);
    t->cells[t->count] = format_list(form, args);
    va_end(args);
    shown(t->cells[t->count++]);
    t->rows = t->count / t->columns;
}

/* Add a row, whose cells are separated by the tabs in `form`. A tab in an argument separates
 * nothing: while `form` is printed, the byte FF, which no UTF-8 text holds, stands for its tabs. */
__attribute__((format(printf, 2, 3)))
void table_row(Table *t, const char *form, ...)
{
    va_list args;
    char *marked = format("%s", form);
    t->columns = 1;
    for (char *c = marked; (c = strchr(c, '\t')); t->columns++) *c = '\xFF';
    va_start(args, form);
    char *line = format_list(marked, args), *rest = line;
    va_end(args);
    for (int i = 0; i < t->columns; i++) table_cell(t, "%s", strsep(&rest, "\xFF"));
    free(line), free(marked);
}

/* Add a cell "value [low, high]", a statistic of n rows; `number` is the format of each. */
void table_interval(Table *t, const char *number, Statistic *statistic, const void *data, int n)
{
    char form[64];
    Interval i = bootstrap(statistic, data, n, opt.seed);
    snprintf(form, sizeof form, "%s [%s, %s]", number, number, number);
    table_cell(t, form, i.value, i.low, i.high);
}

void table_print(const Table *t)
{
    printf("\n%s\n", t->title);
    for (int r = 0; r < t->rows; r++) {
        for (int c = 0; c < t->columns; c++) {
            int width = 0;
            for (int i = c; i < t->count; i += t->columns)
                width = max_int(width, strlen(t->cells[i]));
            const char *cell = t->cells[r * t->columns + c];
            int space = width - (int)strlen(cell);
            printf("  %*s", c ? space : 0, "");
            print_plain(stdout, cell, strlen(cell));
            printf("%*s", c ? 0 : space, "");
        }
        printf("\n");
    }
    if (t->note) printf("  %s\n", t->note);
}

/* {"title": ..., "kind": ..., "columns": [...], "rows": [[...], ...], "note": ...}, one line. */
void table_record(const Table *t, Writer *records)
{
    FILE *f = records->file;
    fputc('{', f), print_json(f, "title", t->title, "");
    if (t->kind) writer_print(records, ",\"kind\":\"%s\"", t->kind);
    for (int i = 0; i < t->rows * t->columns; i++) {
        int row = i / t->columns, begins = i % t->columns == 0;
        fputs(!begins ? "," : !row ? ",\"columns\":[" : row == 1 ? "],\"rows\":[[" : "],[", f);
        json_write_string(f, t->cells[i], strlen(t->cells[i]));
    }
    fputs(t->rows > 1 ? "]]" : "],\"rows\":[]", f);
    if (t->note) fputc(',', f), print_json(f, "note", t->note, "");
    writer_print(records, "}\n");
}

/* Print the table, and append it to the records if there are any. */
void table_done(const Table *t, Writer *records)
{
    table_print(t);
    if (records) table_record(t, records);
}

/* ---- the records of a run ---- */

/* The text of folder/name, in new memory; NULL if there is no such file. */
char *record_read(const char *folder, const char *name)
{
    size_t size;
    char *path = format("%s%s%s", folder, *folder ? "/" : "", name);
    char *text = access(path, R_OK) == 0 ? read_file(path, &size) : NULL;
    free(path);
    return text;
}

typedef struct { char *name, *value; } Setting;

/* The lines "name = value" of a run.txt (NULL: it is missing); after the last, a name is NULL. */
Setting *settings_parse(const char *text)
{
    Setting *all = allocate(1, sizeof *all);
    int count = 0;
    for (Lines l = {.at = text, .end = text ? text + strlen(text) : NULL}; next_line(&l);) {
        const char *name = l.text, *value = memchr(name, '=', l.size);
        if (!value) continue;
        size_t left = value++ - name, right = l.size - left - 1;
        trim(&name, &left), trim(&value, &right);
        all = reallocate(all, count + 2, sizeof *all);
        all[count].name = format("%.*s", (int)left, name);
        all[count++].value = format("%.*s", (int)right, value);
        all[count].name = NULL;
    }
    return all;
}

/* The value of a name; NULL if it is not there. */
const char *setting(const Setting *run, const char *name)
{
    while (run->name && strcmp(run->name, name)) run++;
    return run->name ? run->value : NULL;
}

/* The same as a number; `missing` if it is not there. */
double setting_number(const Setting *run, const char *name, double missing)
{
    return setting(run, name) ? atof(setting(run, name)) : missing;
}

/* The JSON objects in the lines of folder/name, linked by `next`. A line that is not JSON ends the
 * program if `strict`, else it is left out. */
Json *records_read(const char *folder, const char *name, int strict)
{
    char *text = record_read(folder, name), error[200];
    Json *all = NULL, **link = &all;
    if (!text && strict) die("%s: cannot be opened", name);
    for (Lines l = {.at = text, .end = text ? text + strlen(text) : NULL}; next_line(&l);) {
        trim(&l.text, &l.size);
        if (!l.size) continue;
        if ((*link = json_parse(l.text, l.size, error, sizeof error))) link = &(*link)->next;
        else if (strict) die("%s, line %d: %s", name, l.number, error);
        else printf("%s, line %d is left out: %s\n", name, l.number, error);
    }
    free(text);
    return all;
}

/* A member that is a string; NULL if there is none. */
const char *string_of(const Json *object, const char *key)
{
    const Json *member = json_get(object, key);
    return member && member->type == '"' ? member->text : NULL;
}

/* ---- what is evaluated: models, and examples held out of training ---- */

/* The different answers of a classification. */
typedef struct {
    int count, longest, *truth;                       /* truth[n]: the label of each example */
    Item *label;                                      /* an example whose answer is the label */
} Labels;

typedef struct {
    Model *model[2];                                  /* of --model, and of --tuned if given */
    const char *name[2];
    int count, T;                                     /* of models; the context for all */
    Tokenizer *t;
    Tokens val, train;                                /* train is empty if it has no file */
    Item *train_item, *item;                          /* (train_n); (n), behind them in memory */
    int train_n, n, all, *truth;                      /* truth[n]: labels of the held-out ones */
    const Json **question;                            /* (n), the rows of --questions, or NULL */
    Labels labels;                                    /* of all items, in that order */
    char *rows;                                       /* what is measured, for titles */
} Evaluation;

/* Number the different answers of n examples in the order in which they come. They are labels if
 * there are two or more, each comes four times or more in the mean, and none is longer than
 * LABEL_TOKENS (longer ones are sentences, which are not chosen but written); else count is 0. */
enum { LABEL_TOKENS = 16 };
Labels labels_find(const Item *d, int n)
{
    Labels l = {0, 0, allocate(n, sizeof(int)), allocate(n, sizeof(Item))};
    Map numbers = {0};
    for (int i = 0; i < n; i++) {
        l.longest = max_int(l.longest, d[i].size - d[i].answer);
        const char *answer = (const char *)(d[i].ids + d[i].answer);
        MapEntry *e = map_enter(&numbers, answer, 2 * (d[i].size - d[i].answer));
        if (!e->value) l.label[l.count] = d[i], e->value = ++l.count;
        l.truth[i] = (int)e->value - 1;
    }
    if (l.count < 2 || 4 * (size_t)l.count > (size_t)n || l.longest > LABEL_TOKENS)
        l.count = l.longest = 0;
    return l;
}

/* Load --model, --tuned and --tokenizer, which must have the same vocabulary. An --adapter belongs
 * to the last model. */
Evaluation models_load(void)
{
    Evaluation e = {.name = {opt.model, opt.tuned}, .count = opt.tuned ? 2 : 1, .T = INT32_MAX};
    for (int i = 0; i < e.count; i++) {
        const char *adapter = i + 1 == e.count ? opt.adapter : NULL;
        Model *m = e.model[i] = model_load(e.name[i], adapter);
        e.name[i] = model_name(e.name[i], adapter);
        if (m->c.V != e.model[0]->c.V)
            die("%s: has %d tokens, %s has %d: only models of one vocabulary can be compared",
                e.name[i], m->c.V, e.name[0], e.model[0]->c.V);
        e.T = min_int(e.T, m->c.T);
    }
    if (opt.context > e.T)
        die_usage("--context: the model's longest is %d, found %d", e.T, opt.context);
    if (opt.context) e.T = opt.context;
    e.t = tokenizer_load(e.model[0]);
    if (opt.tuned) e.model[1]->c.V = e.t->count;
    return e;
}

/* ---- questions: held-out examples whose answers are judged by what they must contain ----
 *
 * A row of --questions is {"messages": [...]}, the last one the assistant's, or {"prompt": text,
 * "completion": text}. It may have "expect": {"must": ["4 euros|four euros", ...], "must_not":
 * [...]}: an answer is right if it mentions one of the alternatives of each entry of "must", and
 * none of "must_not". Without "expect", it is right if it equals the row's own answer.
 */

int is_word(int class) { return class == LETTER || class == NUMBER; }

/* Does a text contain `part`, capitals of ASCII or not? It must begin where a word begins, but may
 * end inside one: "refund" is in "refunded", not in "prerefund". A number is a word, with its comma
 * or point: "4 euros" is not in "14 euros" or "1.4 euros", and "5" is not in "50" or "5.99". */
int mentions(const char *text, const char *part)
{
    size_t size = strlen(text), n = strlen(part), length;
    int before = OTHER, word = is_word(class_at(part, n, &length));
    int number = isdigit((unsigned char)part[n - 1]);
    for (const char *at = text, *end = text + size; at < end; at += length) {
        const char *after = (size_t)(end - at) < n ? "" : at + n;
        after += number && *after && strchr(".,", *after);
        if (!(word && is_word(before)) && !strncasecmp(at, part, n) &&
            !(number && isdigit((unsigned char)*after))) return 1;
        int inside = before == NUMBER && strchr(".,", *at) && isdigit((unsigned char)at[1]);
        before = class_at(at, end - at, &length);
        if (inside) before = NUMBER;
    }
    return 0;
}

/* What is wrong with an answer by "expect": the entries that are missing or forbidden, in new
 * memory; empty if it is right. */
char *faults(const Json *expect, const char *answer)
{
    Text all = {0};
    text_add(&all, "", 0);
    for (int not = 0; not < 2; not++) {
        const Json *list = json_get(expect, not ? "must_not" : "must");
        for (const Json *entry = list ? list->child : NULL; entry; entry = entry->next) {
            char *copy = format("%s", entry->text), *rest = copy, *part;
            int found = 0;
            while ((part = strsep(&rest, "|"))) found |= mentions(answer, part);
            if (found == not)
                text_print(&all, "%s%s: \"%s\"", all.size ? ", " : "",
                           not ? "forbidden" : "missing", entry->text);
            free(copy);
        }
    }
    return all.bytes;
}

/* Die unless "expect" is as above: a misspelled one would make every answer right. */
void expect_check(const Json *expect, int row)
{
    int entries = 0, good = expect->type == '{';
    for (const Json *list = expect->child; list && good; list = list->next) {
        good = list->type == '[' && (!strcmp(list->key, "must") || !strcmp(list->key, "must_not"));
        for (const Json *entry = list->child; entry && good; entry = entry->next, entries++)
            good = entry->type == '"' && *entry->text && *entry->text != '|' &&
                   entry->text[strlen(entry->text) - 1] != '|' && !strstr(entry->text, "||");
    }
    if (!good || !entries)
        die("%s, row %d: expected \"expect\": {\"must\": [\"text|alternative\", ...], "
            "\"must_not\": [...]} with texts that are not empty", opt.questions, row);
}

/* Append the document of a question to docs: its last answer, which alone is a target, behind the
 * prompt. The answer is cut from the row's messages. */
void question_add(Tokens *docs, Tokenizer *t, const Json *row, int number)
{
    Json *list = json_get(row, "messages"), **last = list ? &list->child : NULL;
    const Json *expect = json_get(row, "expect");
    const char *prompt = string_of(row, "prompt"), *answer = string_of(row, "completion");
    int count, *ids = NULL, chat = list && list->type == '[' && list->count > 1;
    if (chat) {
        while ((*last)->next) last = &(*last)->next;
        const char *role = string_of(*last, "role");
        answer = role && !strcmp(role, "assistant") ? string_of(*last, "content") : NULL;
        *last = NULL, list->count--;
        ids = chat_tokens(t, list, &count);
    } else if (prompt) ids = prompt_tokens(t, prompt, strlen(prompt), &count);
    if (!ids || !answer || !answer[strspn(answer, " \t\r\n")])
        die("%s, row %d: expected \"messages\" whose last is an answer of the assistant, or "
            "\"prompt\" and \"completion\"", opt.questions, number);
    if (expect) expect_check(expect, number);
    for (int i = 1; i < count; i++) tokens_push(docs, ids[i], 0);
    char *text = format("%s%s", chat ? " " : "", answer);
    tokens_encode(docs, t, text, strlen(text), 1);
    tokens_push(docs, t->end_of_text, 1);
    free(text), free(ids);
}

/* The documents of --questions; e->question receives their rows. */
Tokens questions_read(Evaluation *e)
{
    Tokens docs = documents_new(opt.questions, e->t);
    Json *rows = records_read("", opt.questions, 1);
    int n = 0;
    for (const Json *row = rows; row; row = row->next) {
        e->question = grow(e->question, n, sizeof *e->question);
        e->question[n++] = row;
        question_add(&docs, e->t, row, n);
    }
    if (!n) die("%s: holds no questions", opt.questions);
    return docs;
}

/* Read the held-out data, and if they are examples --limit of these and the labels: those of
 * training, then others that occur in the held-out examples alone. Questions have no labels. */
void held_out_load(Evaluation *e)
{
    int V = e->t->count, end = e->t->end_of_text;
    if (!opt.data && !opt.questions)
        die_usage("--data is missing: NAME of NAME_val.bin, made by ./prepare");
    if (opt.test && opt.questions) die_usage("--test and --questions: expected one of them");
    if (opt.test && !tokens_exist(opt.data, "test"))
        die("%s_test.bin is not there; ./prepare examples ... --test FILE makes it", opt.data);
    const char *part = opt.test ? "test" : "val";
    e->val = opt.questions ? questions_read(e) : tokens_read(opt.data, part, V);
    e->rows = opt.questions ? format("%s", opt.questions) : format("%s_%s.bin", opt.data, part);
    if (!e->val.examples) return;
    if (opt.data && tokens_exist(opt.data, "train")) e->train = tokens_read(opt.data, "train", V);
    if (e->train.examples) e->train_item = items_read(&e->train, end, &e->train_n);
    Item *val = items_read(&e->val, end, &e->all);
    e->n = opt.limit ? min_int(opt.limit, e->all) : e->all;
    int *chosen = drawn(e->all, e->n, random_key(opt.seed, 2)); /* the same that score() draws */
    e->train_item = reallocate(e->train_item, e->train_n + e->n, sizeof(Item));
    e->item = e->train_item + e->train_n;
    for (int i = 0; i < e->n; i++) {
        e->item[i] = val[chosen[i]];
        if (opt.questions) e->question[i] = e->question[chosen[i]];     /* chosen[i] >= i */
    }
    if (!opt.questions) e->labels = labels_find(e->train_item, e->train_n + e->n);
    if (e->labels.count) e->truth = e->labels.truth + e->train_n;
}

/* ---- shots: examples of training that are put before a prompt ---- */

typedef struct {
    Tokens text;                                      /* all shots, one after the other */
    int count, *end;                                  /* end[k]: tokens of the first k */
    int *used;                                        /* used[n]: shots before each example */
} Shots;

/* Draw `count` of n examples by --seed, in the order of shuffled(); an empty line follows each. */
Shots shots_draw(Tokenizer *t, const Item *d, int n, int count)
{
    Shots s = {.count = min_int(count, n)};
    int *order = shuffled(n, random_key(opt.seed, 4));
    s.end = allocate(s.count + 1, sizeof(int));
    for (int i = 0; i < s.count; i++) {
        tokens_add(&s.text, d[order[i]].ids + 1, d[order[i]].size - 1, 0);
        tokens_encode(&s.text, t, "\n\n", 2, 0);
        s.end[i + 1] = (int)s.text.count;
    }
    return s;
}

/* How many tokens may be generated as the answer to an example. */
int answer_limit(const Item *d)
{
    return opt.questions ? opt.tokens : min_int(opt.tokens, d->size - d->answer + 8);
}

/* Set used[n]: how many whole shots fit into a context of T together with the prompt and the
 * longest of its answer, what may be generated, and any label. The last ones are left out, so that
 * all queries begin with the same tokens. Returns the mean. */
double shots_fit(Shots *s, const Item *d, int n, const Labels *l, int T)
{
    double sum = 0;
    s->used = allocate(n, sizeof(int));
    for (int i = 0; i < n; i++) {
        int answer = max_int(d[i].size - d[i].answer, answer_limit(&d[i])), k = s->count;
        answer = max_int(answer, l->longest);
        while (k && s->end[k] + d[i].answer + answer > T) k--;
        sum += s->used[i] = k;
    }
    return sum / n;
}

/* The shots before example i; none if s is NULL. The ids are the shots', not a copy. */
Tokens shots_before(const Shots *s, int i)
{
    return s ? (Tokens){.ids = s->text.ids, .count = s->end[s->used[i]]} : (Tokens){0};
}

/* Append the document of shots, a prompt and an answer, which alone is a target. */
void document_add(Tokens *docs, Tokens shots, const Item *prompt, const Item *answer)
{
    tokens_add(docs, shots.ids, shots.count, 0);
    tokens_add(docs, prompt->ids + 1, prompt->answer - 1, 0);
    tokens_add(docs, answer->ids + answer->answer, answer->size - answer->answer, 1);
    tokens_push(docs, docs->ids[0], answer->closed);
}

/* ---- predictions of labels, and how good they are ---- */

typedef struct {
    int labels;
    const int *truth;                                 /* arrays of one number an example */
    int *predicted;
    double *probability, *right;                      /* of the predicted label; 1: it is true */
} Predictions;

/* Set p(l->count) to the probability of each label, with its end, as the answer to prompt(count),
 * as a share among all; return the most probable. If the prompt and the longest label do not fit
 * into T tokens, the prompt's end is read. All but its last token is read once; behind its keys and
 * values, as many labels at a time as fit are documents that begin with this last token. */
int label_predict(double *p, Model *m, const Tokenizer *t, const Labels *l, const int *prompt,
                  int count, int T)
{
    int skip = max_int(0, count + l->longest - T), past = count - skip - 1, k = -1, best = 0;
    if (past < 0) die("a label of %d tokens does not fit into a context of %d", l->longest, T);
    if (m->mode != INFERENCE || m->T != T) model_prepare(m, INFERENCE, 1, T, 0);
    if (past) model_forward(m, prompt + skip, NULL, 1, 0, past, (Dropout){0});
    Batch b = batch_new(1, T);
    b.T = 0;
    memset(p, 0, l->count * sizeof *p);
    for (const Item *label = l->label, *end = label + l->count; label < end; label++) {
        const uint16_t *id = label->ids + label->answer;
        int start = b.T, size = label->size - label->answer;
        for (int i = 0; i <= size; i++, b.T++) {
            b.tokens[b.T] = i ? id[i - 1] : prompt[count - 1];
            b.targets[b.T] = i < size ? id[i] : t->end_of_text;
            b.doc_start[b.T] = start;
            b.loss_weight[b.T] = i < size || label->closed;
        }
        if (label + 1 < end && past + b.T + l->longest < T) continue;
        model_forward(m, b.tokens, b.doc_start, 1, past, b.T, (Dropout){0});
        model_head(m, &b, 0, 0);
        for (int n = 0; n < b.T; n++) {
            k += b.doc_start[n] == n;                         /* the next label begins */
            p[k] -= m->loss[n];
        }
        b.T = 0;
    }
    batch_free(&b);
    for (k = 1; k < l->count; k++) best = p[k] > p[best] ? k : best;
    double sum = 0, most = p[best];
    for (k = 0; k < l->count; k++) p[k] = exp(p[k] - most), sum += p[k];
    for (k = 0; k < l->count; k++) p[k] /= sum;
    return best;
}

/* Classify the held-out examples, behind the shots if given. All arrays but truth are new. */
Predictions labels_predict(Model *m, const Evaluation *e, const Shots *shots)
{
    Predictions a = {e->labels.count, e->truth, allocate(e->n, sizeof(int)),
                     allocate(e->n, sizeof(double)), allocate(e->n, sizeof(double))};
    double *p = allocate(a.labels, sizeof *p);
    for (int i = 0; i < e->n; i++) {
        Tokens before = shots_before(shots, i);
        Query q = query_new(&e->item[i], &before, 0, NULL);
        int best = label_predict(p, m, e->t, &e->labels, q.prompt, q.count, e->T);
        a.predicted[i] = best, a.probability[i] = p[best], a.right[i] = best == e->truth[i];
        free(q.prompt);
    }
    free(p);
    return a;
}

/* Macro-F1: the mean over the labels of 2 right / (true + predicted). A label that is neither true
 * nor predicted in these rows is left out. */
double label_f1(const void *data, const int *rows, int n)
{
    const Predictions *p = data;
    double sum = 0, *right = allocate(2 * p->labels, sizeof(double)), *all = right + p->labels;
    int present = 0;
    for (int i = 0; i < n; i++) {
        int truth = p->truth[rows[i]], predicted = p->predicted[rows[i]];
        all[truth]++, all[predicted]++;
        right[truth] += truth == predicted;
    }
    for (int k = 0; k < p->labels; k++) if (all[k]) sum += 2 * right[k] / all[k], present++;
    free(right);
    return present ? sum / present : NAN;
}

/* Expected calibration error: |mean probability - share that is right|, averaged over ten bins of
 * probability, each weighted by its number of rows [Guo et al. 2017]. */
double label_ece(const void *data, const int *rows, int n)
{
    const Predictions *p = data;
    double excess[10] = {0}, sum = 0;                 /* of probability over right, summed */
    for (int i = 0; i < n; i++) {
        double probability = p->probability[rows[i]];
        excess[min_int(9, (int)(probability * 10))] += probability - p->right[rows[i]];
    }
    for (int b = 0; b < 10; b++) sum += fabs(excess[b]);
    return sum / n;
}

/* ---- answers: all that is measured of one way to ask a model ---- */

enum { LOSS, BITS, TOKEN, LABEL, EXACT, RATIOS };     /* EXACT: what is generated is right */

typedef struct {
    const char *way;                                  /* its name in the table of compare */
    Ratio ratio[RATIOS];                              /* over the examples; NULL: not measured */
    int count;                                        /* rows or examples of the first three */
    Predictions p;
    char **answer;                                    /* of each example, if it was generated */
    double shots, tokens, seconds;                    /* of a query, in the mean */
} Answers;

/* What is wrong with an answer to held-out example i, in new memory; empty if it is right. */
char *faults_of(const Evaluation *e, int i, const char *answer)
{
    const Json *expect = e->question ? json_get(e->question[i], "expect") : NULL;
    if (expect) return faults(expect, answer);
    char *target = target_text(e->t, &e->item[i]);
    return strcmp(target, answer) ? format("expected: %s", target) : format("%s", "");
}

/* Let m answer all held-out examples, behind the shots if there are any: sets a->answer(n), whether
 * each is right, and the seconds that an answer takes. */
void answers_generate(Answers *a, const Model *m, const Evaluation *e, const Shots *shots)
{
    Query *q = allocate(e->n, sizeof *q);
    double *right = allocate(e->n, sizeof *right), start = seconds();
    for (int i = 0; i < e->n; i++) {
        Tokens before = shots_before(shots, i);
        q[i] = query_new(&e->item[i], &before, answer_limit(&e->item[i]),
                         before.count ? "\n\n" : "\nUser:");
    }
    queries_answer(m, e->t, q, e->n);
    a->seconds = (seconds() - start) / e->n;
    a->answer = allocate(e->n, sizeof *a->answer);
    for (int i = 0; i < e->n; i++) {
        a->answer[i] = q[i].answer;
        char *wrong = faults_of(e, i, q[i].answer);
        right[i] = !*wrong;
        free(wrong);
    }
    a->ratio[EXACT].numerator = right;
}

/* Ask model m. Without shots, the loss is that of all held-out data, whatever they are; with them
 * (none or more, as many as fit), that of each example's first answer behind the shots. */
Answers answers_of(const Evaluation *e, Model *m, Shots *shots)
{
    Answers a = {0};
    Tokens docs = documents_new("examples", e->t);
    if (shots) a.shots = shots_fit(shots, e->item, e->n, &e->labels, e->T);
    for (int i = 0; shots && i < e->n; i++) {
        Tokens before = shots_before(shots, i);
        int prompt = (int)before.count + e->item[i].answer, T = m->c.T;
        document_add(&docs, before, &e->item[i], &e->item[i]);
        a.tokens += (prompt < T ? prompt : T - T / 2) / (double)e->n;    /* as generate() reads */
    }
    Scores s = score(m, e->t, shots ? &docs : &e->val, opt.batch, e->T, shots ? 0 : opt.limit,
                     opt.seed);
    a.ratio[LOSS] = (Ratio){s.loss, s.count}, a.ratio[BITS] = (Ratio){s.loss, s.bytes};
    a.ratio[TOKEN] = (Ratio){s.right, s.count}, a.count = s.n;
    if (e->labels.count) {
        a.p = labels_predict(m, e, shots);
        a.ratio[LABEL].numerator = a.p.right;
    }
    if (e->n) answers_generate(&a, m, e, shots);
    tokens_free(&docs);
    return a;
}

/* ---- words counted: what a model without any knowledge of language achieves ----
 *
 * Each prompt becomes a vector x of length 1: for each different word log(1 + how often it occurs),
 * and 1 for a word that is in all of them, divided by the root of the sum of squares. Which words
 * follow each other is lost. Label k has a weight for each word, W(words, labels):
 *     p = softmax(x W),   loss = the mean of -log p[truth] + decay/2 |W|^2.
 * This is multinomial logistic regression. The loss is convex, its gradient is
 *     dW = mean of x (p - y) + decay W,   y = 1 for the true label, else 0,
 * and changes, as |x| = 1, at most (1/2 + decay) times as fast as W. So steps of 1/(1/2 + decay)
 * never go too far. Accelerated, they start from where the last two steps point [Nesterov 1983].
 */

typedef struct {
    Map numbers;                                      /* of words, from 1; 0 is in every row */
    int n, words, labels, *start;                     /* start(n + 1): where each row begins in */
    int *word;                                        /* the numbers of its different words, and */
    float *value;                                     /* the vector's numbers for these */
} WordCounts;

/* Append the row of a text, which must stay in memory, and is made lower case. New words receive
 * numbers if `learn`, else are left out. */
void words_add(WordCounts *w, char *text, int learn)
{
    int from = w->start[w->n], to = from;
    size_t size = strlen(text), length, end;
    w->word = reallocate(w->word, to + size + 1, sizeof *w->word);
    w->value = reallocate(w->value, to + size + 1, sizeof *w->value);
    w->word[to] = 0, w->value[to++] = 1;
    for (size_t at = 0; at < size; at = end + (end == at)) {
        for (end = at; end < size && is_word(class_at(text + end, size - end, &length));)
            for (; length; length--, end++) text[end] = tolower((unsigned char)text[end]);
        MapEntry *e = end == at ? NULL : map_enter(&w->numbers, text + at, end - at);
        if (!e || (!e->value && !learn)) continue;
        if (!e->value) e->value = w->words++;
        int i = from + 1;
        while (i < to && w->word[i] != e->value) i++;
        if (i == to) w->word[to] = (int)e->value, w->value[to++] = 0;
        w->value[i]++;
    }
    double sum = 1;
    for (int i = from + 1; i < to; i++) {
        w->value[i] = log1p(w->value[i]);
        sum += w->value[i] * w->value[i];
    }
    for (int i = from; i < to; i++) w->value[i] /= sqrt(sum);
    w->start[++w->n] = to;
}

/* p(labels) = softmax(x W) for a row x. Returns the label of the largest. */
int words_predict(float *p, const float *W, const WordCounts *x, int row)
{
    int L = x->labels, best = 0;
    float sum = 0;
    memset(p, 0, L * sizeof *p);
    for (int i = x->start[row]; i < x->start[row + 1]; i++)
        for (int k = 0; k < L; k++) p[k] += x->value[i] * W[(size_t)x->word[i] * L + k];
    for (int k = 1; k < L; k++) best = p[k] > p[best] ? k : best;
    float max = p[best];
    for (int k = 0; k < L; k++) sum += p[k] = exp_float(p[k] - max);
    for (int k = 0; k < L; k++) p[k] /= sum;
    return best;
}

/* Improve W(words, labels), by steps on the n rows listed. */
void words_fit(float *W, const WordCounts *x, const int *truth, const int *row, int n, float decay)
{
    enum { STEPS = 150 };
    int L = x->labels;
    size_t count = (size_t)x->words * L;
    float *ahead = allocate(2 * count + L, sizeof *ahead), *dW = ahead + count, *p = dW + count;
    memcpy(ahead, W, count * sizeof *W);
    for (int step = 0; step < STEPS; step++) {
        for (size_t j = 0; j < count; j++) dW[j] = decay * ahead[j];
        for (int r = 0; r < n; r++) {
            words_predict(p, ahead, x, row[r]);
            p[truth[row[r]]] -= 1;
            for (int i = x->start[row[r]]; i < x->start[row[r] + 1]; i++)
                for (int k = 0; k < L; k++)
                    dW[(size_t)x->word[i] * L + k] += x->value[i] * p[k] / n;
        }
        for (size_t j = 0; j < count; j++) {
            float next = ahead[j] - dW[j] / (0.5f + decay);
            ahead[j] = next + step / (step + 3.0f) * (next - W[j]), W[j] = next;
        }
    }
    free(ahead);
}

/* The weights of all n training rows, in new memory. The decay is the one of a few, from strong to
 * weak, that is best for a fifth of the rows after learning from the others; of equal ones, the
 * stronger. */
float *words_train(const WordCounts *x, const int *truth, int n)
{
    int *row = shuffled(n, random_key(opt.seed, 5)), held = n / 5, most = -1;
    float *W = allocate((size_t)x->words * x->labels + x->labels, sizeof *W), decay = 0;
    float *p = W + (size_t)x->words * x->labels;
    for (float d = 1e-2f; d > 5e-6f; d /= 3.1622777f) {
        int right = 0;
        words_fit(W, x, truth, row + held, n - held, d);
        for (int i = 0; i < held; i++) right += words_predict(p, W, x, row[i]) == truth[row[i]];
        if (right > most) most = right, decay = d;
    }
    words_fit(W, x, truth, row, n, decay);
    return W;
}

/* What words counted achieve on the held-out examples, learned from those of training. */
Answers words_counted(const Evaluation *e)
{
    Answers a = {.way = "words counted"};
    int L = e->labels.count, n = e->n;
    WordCounts x = {.words = 1, .labels = L, .start = allocate(e->train_n + n + 1, sizeof(int))};
    for (int i = 0; i < e->train_n + n; i++) {
        const Item *d = &e->train_item[i];
        words_add(&x, tokens_text(e->t, d->ids, d->answer), i < e->train_n);
    }
    float *W = words_train(&x, e->labels.truth, e->train_n), *p = allocate(L, sizeof *p);
    double start = seconds();
    a.p = (Predictions){L, e->truth, allocate(n, sizeof(int)), allocate(n, sizeof(double)),
                        allocate(n, sizeof(double))};
    for (int i = 0; i < n; i++) {
        int best = a.p.predicted[i] = words_predict(p, W, &x, e->train_n + i);
        a.p.probability[i] = p[best], a.p.right[i] = best == e->truth[i];
    }
    a.seconds = (seconds() - start) / n;
    a.ratio[LABEL].numerator = a.p.right;
    return a;
}

/* Which rows are measured, `count` of them: their file, and of how many. In new memory. */
char *title_of(const Evaluation *e, int count)
{
    if (e->n == e->all)
        return format("%s: %d held-out %s", e->rows, count, e->n ? "examples" : "rows");
    return format("%s: %d of %d held-out examples, drawn at random", e->rows, count, e->all);
}

/* ---- eval: loss, labels and pairs ---- */

/* Which labels are taken for which. */
void report_confusion(const char *model, const Predictions *p, const Evaluation *e, Writer *records)
{
    size_t L = p->labels;
    int *count = allocate(L * L, sizeof(int));
    char **name = allocate(L, sizeof *name);
    Table t = {.title = format("confusion of %s", model), .columns = (int)L + 1, .kind = "heat",
               .note = "rows: the true label; columns: the predicted one"};
    for (int i = 0; i < e->n; i++) count[p->truth[i] * L + p->predicted[i]]++;
    table_cell(&t, "truth");
    for (size_t k = 0; k < L; k++)
        table_cell(&t, "%s", name[k] = target_text(e->t, &e->labels.label[k]));
    for (size_t i = 0; i < L * L; i++) {
        if (i % L == 0) table_cell(&t, "%s", name[i / L]);
        table_cell(&t, "%d", count[i]);
    }
    table_done(&t, records);
}

/* A column of a table by group: a number of each row of the data, and the format of its mean. */
typedef struct { const char *name, *form; const double *value; } Column;

/* Fill a table, whose columns are set and whose first two cells name the groups and the rows: a row
 * for each group of the n rows of data, in the order in which they come, if there are several, and
 * one for all; in it the number of rows, and the mean of each column over these. */
void report_groups(Table *t, const char **group, int n, const Column *column, Writer *records)
{
    double *chosen = allocate(n, sizeof *chosen);
    int several = 0, columns = t->columns - 2;
    for (int i = 0; i < n; i++) several |= strcmp(group[i], group[0]) != 0;
    for (int k = 0; k < columns; k++) table_cell(t, "%s", column[k].name);
    for (int i = several ? 0 : n; i <= n; i++) {              /* i = n: all */
        int first = 0, count;
        while (i < n && strcmp(group[first], group[i])) first++;
        if (i < n && first < i) continue;
        for (int k = 0; k < columns; k++) {
            count = 0;
            for (int row = 0; row < n; row++)
                if (i == n || !strcmp(group[row], group[i])) chosen[count++] = column[k].value[row];
            if (k == 0) table_cell(t, "%s", i < n ? group[i] : "all"), table_cell(t, "%d", count);
            table_interval(t, column[k].form, ratio, &(Ratio){chosen, NULL}, count);
        }
    }
    table_done(t, records);
}

/* The share of questions that each model answers rightly, and of two models the difference. A group
 * is the text of the row's member --group. */
void report_right(const Evaluation *e, const Answers *a, Writer *records)
{
    const double *right[] = {a[0].ratio[EXACT].numerator, a[1].ratio[EXACT].numerator};
    double *gained = allocate(e->n, sizeof *gained);
    const char **group = allocate(e->n, sizeof *group);
    int two = e->count == 2;
    Column columns[] = {{e->name[0], "%.3f", right[0]}, {e->name[1], "%.3f", right[1]},
                        {"difference", "%+.3f", gained}};
    Table t = {.columns = two ? 5 : 3, .title = format("%s: the share of right answers", e->rows),
               .note = format("answers of at most %d tokens (--tokens), always the likeliest one",
                              opt.tokens)};
    for (int i = 0; i < e->n; i++) {
        const Json *member = json_get(e->question[i], opt.group);
        group[i] = member && member->text ? member->text : "-";
        if (two) gained[i] = right[1][i] - right[0][i];
    }
    table_cell(&t, "%s", opt.group), table_cell(&t, "questions");
    report_groups(&t, group, e->n, columns, records);
}

/* One line for each example that model k answered, in answers.jsonl: its prompt, the answer that is
 * wanted, the one that it got and its probability, of a label among all labels, of a free answer as
 * that of the wanted one, and whether it is right. With --errors, print the wrong ones. */
void answers_record(const Evaluation *e, const Answers *a, int k, Writer *lines)
{
    int wrong = 0, list = opt.errors && k == e->count - 1, labels = e->labels.count;
    if (list) printf("\nwrong answers of %s\n", e->name[k]);
    for (int i = 0; i < e->n; i++) {
        char *prompt = tokens_text(e->t, e->item[i].ids, e->item[i].answer);
        char *wanted = target_text(e->t, &e->item[i]);
        char *got = labels ? target_text(e->t, &e->labels.label[a->p.predicted[i]]) : a->answer[i];
        char *fault = faults_of(e, i, got);
        double p = labels ? a->p.probability[i] : exp(-a->ratio[LOSS].numerator[i]);
        fputc('{', lines->file), print_json(lines->file, "model", e->name[k], ",");
        print_json(lines->file, "prompt", prompt, ",");
        print_json(lines->file, "wanted", wanted, ","), print_json(lines->file, "got", got, ",");
        writer_print(lines, "\"probability\":%.4g,\"right\":%s}\n", p, *fault ? "false" : "true");
        wrong += *fault != 0;
        if (list && *fault)
            print_line("  ", prompt), print_line("    -> ", got), print_line("    ", fault);
    }
    if (list) printf("  %d of %d are wrong\n", wrong, e->n);
}

/* Measure each model on the held-out data: a table with a column for each; then, of questions, the
 * right answers, of labels, the confusions. */
void report_eval(const Evaluation *e, Writer *records)
{
    static const struct { const char *name, *form; Statistic *statistic; int of; } measures[] = {
        {"loss, nats a token", "%.4f", ratio, LOSS}, {"perplexity", "%.2f", ratio_exp, LOSS},
        {"bits a byte", "%.4f", ratio_bits, BITS}, {"token accuracy", "%.4f", ratio, TOKEN},
        {"accuracy, by generation", "%.3f", ratio, EXACT},
        {"accuracy, by likelihood", "%.3f", ratio, LABEL},
        {"macro-F1", "%.3f", label_f1, RATIOS}, {"calibration error", "%.3f", label_ece, RATIOS}};
    enum { MATRIX = 20 };                             /* the most labels of a table of confusions */
    Answers a[3] = {{0}};
    int labels = e->labels.count, answers = e->n && !opt.questions;
    int rows = labels ? (int)(sizeof measures / sizeof *measures) : 4 + answers;
    int columns = e->count + (labels && e->train_n);
    for (int i = 0; i < e->count; i++) a[i] = answers_of(e, e->model[i], NULL);
    if (columns > e->count) a[e->count] = words_counted(e);
    Table t = {.columns = columns + 1, .title = title_of(e, a->count)};
    t.note = format("in brackets: 95%% intervals%s%s", !labels ? ""
                    : e->train_n ? "; the labels are those of the training data"
                    : "; NAME_train.bin is not there: the labels are those of these rows",
                    labels > MATRIX ? ", too many for a table of confusions" : "");
    table_cell(&t, "measure");
    for (int i = 0; i < columns; i++) table_cell(&t, "%s", i < e->count ? e->name[i] : a[i].way);
    for (int k = 0; k < rows; k++) {
        int of = measures[k].of, n = of < LABEL ? a->count : e->n;
        table_cell(&t, "%s", measures[k].name);
        for (int i = 0; i < columns; i++)
            if (of < RATIOS && !a[i].ratio[of].numerator) table_cell(&t, "%s", "");
            else table_interval(&t, measures[k].form, measures[k].statistic,
                                of < RATIOS ? (void *)&a[i].ratio[of] : (void *)&a[i].p, n);
    }
    table_done(&t, records);
    if (opt.questions) report_right(e, a, records);
    for (int i = 0; labels && labels <= MATRIX && i < e->count; i++)
        report_confusion(e->name[i], &a[i].p, e, records);
    Writer *lines = e->n ? writer_in(opt.out, "answers.jsonl") : NULL;
    for (int i = 0; e->n && i < e->count; i++) answers_record(e, &a[i], i, lines);
    if (lines) writer_close(lines);
}

/* ---- counterfactual pairs: lines of JSON, whose texts a and b differ in a group of people ---- */

/* Set gap[n] to log p(a) - log p(b) of each pair, in nats: positive where a is likelier. */
void pairs_gap(double *gap, Model *m, Tokenizer *t, const Json *pairs, int n, int T)
{
    Tokens docs = documents_new(opt.pairs, t);
    for (const Json *pair = pairs; pair; pair = pair->next)
        for (int side = 0; side < 2; side++) {
            const Json *text = json_get(pair, side ? "b" : "a");
            tokens_encode(&docs, t, text->text, text->size, 1);
            tokens_push(&docs, t->end_of_text, 1);
        }
    Scores s = score(m, t, &docs, opt.batch, T, 0, 0);
    for (int i = 0; i < n; i++) gap[i] = s.loss[2 * i + 1] - s.loss[2 * i];
    free(s.loss), tokens_free(&docs);
}

/* The mean gap and the mean of its size for each model, by group. */
void report_pairs(const Evaluation *e, Writer *records)
{
    Json *pairs = records_read("", opt.pairs, 1);
    const char **group = NULL;
    int n = 0;
    for (const Json *p = pairs; p; p = p->next) {
        const char *a = string_of(p, "a"), *b = string_of(p, "b");
        group = grow(group, n, sizeof *group);
        group[n++] = string_of(p, "group");
        if (!a || !*a || !b || !*b || !group[n - 1])
            die("%s, pair %d: expected {\"a\": text, \"b\": text, \"group\": text}", opt.pairs, n);
    }
    if (!n) die("%s: holds no pairs", opt.pairs);
    Column column[4];
    Table t = {.columns = 2 + 2 * e->count,
               .title = format("%s: %d pairs, log p(a) - log p(b), in nats", opt.pairs, n),
               .note = "near 0: both are equally likely; size: the mean distance from 0"};
    for (int k = 0; k < e->count; k++) {
        double *gap = allocate(2 * n, sizeof *gap), *size = gap + n;
        pairs_gap(gap, e->model[k], e->t, pairs, n, e->T);
        for (int i = 0; i < n; i++) size[i] = fabs(gap[i]);
        column[2 * k] = (Column){format("%s: gap", e->name[k]), "%+.3f", gap};
        column[2 * k + 1] = (Column){"size", "%.3f", size};
    }
    table_cell(&t, "group"), table_cell(&t, "pairs");
    report_groups(&t, group, n, column, records);
}

int command_eval(int words, char **word)
{
    (void)words, (void)word;
    if (opt.pairs && (opt.data || opt.questions || opt.test || opt.errors))
        die_usage("--pairs is measured alone: leave --data, --questions, --test and --errors out");
    Evaluation e = models_load();
    if (!opt.pairs) held_out_load(&e);
    if (opt.errors && !e.n) die("%s: running text has no answers for --errors", opt.data);
    make_folder(opt.out);
    Writer *records = writer_in(opt.out, opt.pairs ? "bias.jsonl" : "eval.jsonl");
    if (opt.pairs) report_pairs(&e, records);
    else report_eval(&e, records);
    writer_close(records);
    return 0;
}

/* ---- compare: prompting against fine-tuning ---- */

/* A row of the table: how `b` did, or, if `a` is given, by how much b exceeds a. */
void compare_row(Table *t, const Answers *a, const Answers *b, int n)
{
    static const int columns[] = {LOSS, LABEL, EXACT};
    if (a) table_cell(t, "%s - %s", b->way, a->way), table_cell(t, "%s", "");
    else table_cell(t, "%s", b->way), table_cell(t, "%.1f", b->shots);
    for (int k = 0; k < 3; k++) {
        Ratio r = b->ratio[columns[k]];
        if (!r.numerator || (a && !a->ratio[columns[k]].numerator)) table_cell(t, "%s", "");
        else if (a) table_interval(t, "%+.3f", gain, &(Gain){a->ratio[columns[k]], r}, n);
        else table_interval(t, "%.3f", ratio, &r, n);
    }
    table_cell(t, a ? "%+.0f" : "%.0f", b->tokens - (a ? a->tokens : 0));
    table_cell(t, a ? "%+.1f" : "%.1f", 1e3 * (b->seconds - (a ? a->seconds : 0)));
}

/* After how many queries tuning has paid for itself, a sentence in new memory; empty if that is not
 * known. Training on a token costs as much as reading three: backward costs two forwards [Kaplan et
 * al. 2020]. A query saves the tokens of its shots, unless their keys and values are kept. `run` is
 * the tuned model's. */
char *break_even(const Setting *run, double tokens_saved, double seconds_saved)
{
    double tokens = setting_number(run, "tokens", 0), time = setting_number(run, "seconds", 0);
    if (tokens <= 0 || tokens_saved <= 0) return format("%s", "");
    return format("\n  Against the longest prompt, tuning pays for itself after %.0f queries "
                  "counted in tokens%s.\n  If the keys and values of the shots are kept in memory, "
                  "it pays by its better answers alone.", ceil(3 * tokens / tokens_saved),
                  seconds_saved <= 0 ? ""
                  : format(", or %.0f counted in seconds", ceil(time / seconds_saved)));
}

enum { MOST_WAYS = 16 };

/* The numbers of --shots, such as 0,4, into k; returns how many. */
int shots_parse(int k[MOST_WAYS])
{
    int ways = 0;
    for (char *list = format("%s", opt.shots), *word, *end; (word = strsep(&list, ","));) {
        long count = strtol(word, &end, 10);
        if (ways == MOST_WAYS || end == word || *end || count < 0 || count > 1000)
            die_usage("--shots: expected up to %d numbers from 0 to 1000, such as 0,4, found '%s'",
                      MOST_WAYS, opt.shots);
        k[ways++] = (int)count;
    }
    return ways;
}

/* A table of a[ways + 1]: several ways to answer without tuning, then the tuned model, and by how
 * much it exceeds each of them. */
void report_compare(const Evaluation *e, const Answers *a, int ways, Writer *records)
{
    const Answers *tuned = a + ways, *longest = a;
    const char *path = file_beside(opt.adapter ? opt.adapter : opt.tuned, "run.txt");
    Setting *run = settings_parse(path ? record_read("", path) : NULL);
    Table t = {.title = format("%s, base %s, tuned %s", title_of(e, e->n), opt.model, e->name[1])};
    table_row(&t, "model\tshots\tloss a token\taccuracy\t%s answer\ttokens a query\tms a query",
              opt.questions ? "right" : "exact");
    for (int i = 0; i <= ways; i++) compare_row(&t, NULL, &a[i], e->n);
    for (int i = 0; i < ways; i++) {
        compare_row(&t, &a[i], tuned, e->n);
        if (a[i].tokens > longest->tokens) longest = &a[i];
    }
    t.note = format("shots: the mean number of whole shots that fit into %d tokens with the prompt "
                    "and answer.%s", e->T, break_even(run, longest->tokens - tuned->tokens,
                                                      longest->seconds - tuned->seconds));
    table_done(&t, records);
}

int command_compare(int words, char **word)
{
    (void)words, (void)word;
    if (!opt.tuned && !opt.adapter)
        die_usage("--tuned is missing: the fine-tuned model, or --adapter");
    if (!opt.tuned) opt.tuned = opt.model;
    int k[MOST_WAYS + 1] = {0}, ways = shots_parse(k);
    Evaluation e = models_load();
    held_out_load(&e);
    if (!e.val.examples) die("%s: compare needs examples, found running text", opt.data);
    if (!opt.data) die_usage("--data is missing: NAME of NAME_train.bin, where shots are drawn");
    if (!e.train_n) die("%s_train.bin is not there: shots are drawn from it", opt.data);
    Answers a[MOST_WAYS + 2];
    for (int i = 0; i <= ways; i++) {
        Shots shots = shots_draw(e.t, e.train_item, e.train_n, k[i]);
        a[i] = answers_of(&e, e.model[i == ways], &shots);
        a[i].way = i == ways ? "tuned" : k[i] ? format("base, %d-shot", k[i]) : "base";
    }
    if (e.labels.count) a[ways + 1] = a[ways], a[ways++] = words_counted(&e);
    make_folder(opt.out);
    Writer *records = writer_in(opt.out, "compare.jsonl");
    report_compare(&e, a, ways, records);
    writer_close(records);
    return 0;
}

/* ---- classify: a line in, a label out ---- */

Labels classify_labels;                               /* of --labels, for answer_classify */

/* The labels of a list, separated by commas, as answers that can be scored: a space, the label. */
Labels labels_parse(const char *text, Tokenizer *t)
{
    Labels l = {0};
    Map seen = {0};
    char *rest = format("%s", text), *part;
    while ((part = strsep(&rest, ","))) {
        char *label = trimmed(format("%s", part)), *answer = format(" %s", label);
        Tokens docs = documents_new("--labels", t);
        if (!*label) die_usage("--labels: an empty label in '%s'", text);
        if (map_enter(&seen, label, strlen(label))->value++)
            die_usage("--labels: '%s' is there twice", label);
        tokens_encode(&docs, t, answer, strlen(answer), 1);
        l.label = grow(l.label, l.count, sizeof *l.label);
        l.label[l.count++] = (Item){docs.ids, (int)docs.count, 1, 1};
        l.longest = max_int(l.longest, (int)docs.count - 1);
    }
    if (l.count < 2) die_usage("--labels: expected two labels or more, found '%s'", text);
    return l;
}

/* Print the most likely label of one line, and its probability. */
void answer_classify(Model *m, Tokenizer *t, char *line, size_t size)
{
    char error[256] = "";
    int count, *prompt;
    for (char *c = line; !opt.jsonl && (c = memmem(c, line + size - c, "\\n", 2));) {
        *c++ = '\n';                                  /* a line break, as typed */
        memmove(c, c + 1, line + size-- - c);
    }
    if (opt.jsonl) prompt = line_tokens(t, line, size, &count, error, sizeof error);
    else prompt = prompt_tokens(t, line, size, &count);
    if (!prompt) { putchar('{'), print_json(stdout, "error", error, "}\n"); return; }
    double *p = allocate(classify_labels.count, sizeof *p);
    int best = label_predict(p, m, t, &classify_labels, prompt, count, m->c.T);
    char *label = target_text(t, &classify_labels.label[best]);
    if (opt.jsonl) putchar('{'), print_json(stdout, "label", label, ",");
    else printf("%s\t", label);
    printf(opt.jsonl ? "\"probability\":%.4f}\n" : "%.4f\n", p[best]);
    free(p), free(label), free(prompt);
}

int command_classify(int words, char **word)
{
    (void)words, (void)word;
    if (!opt.labels)
        die_usage("--labels is missing: the labels to choose from, such as positive,negative");
    Model *m = model_load(opt.model, opt.adapter);
    Tokenizer *t = tokenizer_load(m);
    classify_labels = labels_parse(opt.labels, t);
    return each_line(m, t, answer_classify);
}

/* ================================================================================================
 * 8. Examples
 *
 * Fine-tuning learns from examples: what a model is told, and what it should answer. They come one
 * per line in OpenAI's formats, {"messages": [...]} or {"prompt", "completion"}, or as a table with
 * a header (CSV, TSV). Their quality matters more than any setting of the training. Therefore all
 * rows are read, checked and reported on before anything is written.
 *
 * Whatever its format, a row becomes a list of turns, and the template in train_gpt.c makes tokens
 * of them. Two examples are called equal if their tokens are equal.
 */

/* ---- findings: what is reported about single rows ---- */

enum { ERRORS, DUPLICATES, NEAR, CONFLICTS, LONG, NOTES };     /* kinds; notes drop no row */
const char *const kind_names[] = {"errors", "duplicates", "near", "conflicts", "long", ""};

#define FINDINGS(X)                                                                              \
    X(NOT_UTF8,     ERRORS,     "not UTF-8")                                                     \
    X(NOT_JSON,     ERRORS,     "not JSON")                                                      \
    X(NOT_CSV,      ERRORS,     "not a row of the table")                                        \
    X(WRONG_TYPE,   ERRORS,     "wrong data type")                                               \
    X(MISSING_KEY,  ERRORS,     "missing key")                                                   \
    X(UNKNOWN_KEY,  ERRORS,     "unrecognized key")                                              \
    X(UNKNOWN_ROLE, ERRORS,     "unrecognized role")                                             \
    X(NO_CONTENT,   ERRORS,     "missing content")                                               \
    X(NO_ANSWER,    ERRORS,     "no assistant message")                                          \
    X(REPEATED,     DUPLICATES, "exact duplicate")                                               \
    X(SIMILAR,      NEAR,       "near duplicate")                                                \
    X(LEAKED,       DUPLICATES, "test row equal to a row of training")                           \
    X(LEAKED_NEAR,  NEAR,       "test row like a row of training")                               \
    X(CONFLICT,     CONFLICTS,  "same prompt, other answer")                                     \
    X(TOO_LONG,     LONG,       "longer than the context")                                       \
    X(IGNORED_KEY,  NOTES,      "ignored key")                                                   \
    X(HEADER_IN,    NOTES,      "turn header in a text")                                         \
    X(NEW_ANSWER,   NOTES,      "test row whose answer is not in training")                      \
    X(LONE_ANSWER,  NOTES,      "answer of one row only")                                        \
    X(NO_SPACE,     NOTES,      "no space before the answer")

enum { SHOWN = 3 };              /* rows that the report names for each finding */
#define FINDING_NAME(name, ...) name,
#define FINDING_ROW(name, kind, what) {what, kind, 0, {0}},
enum { FINDINGS(FINDING_NAME) FINDING_COUNT };
struct { const char *what; int kind, count; char *shown[SHOWN]; }
    findings[] = {FINDINGS(FINDING_ROW)};

enum { TRAIN, VALIDATION, TEST, SETS };
const char *const set_names[] = {"training", "validation", "test"};
const char *const set_files[] = {"train", "val", "test"};

typedef struct {
    const char *path;
    int line, origin, count;     /* where the row begins; line 1 of its values; number of turns */
    Turn *turns;
    Encoded tokens;
    int equal, same_prompt, label;     /* first row with these tokens, this prompt, this answer */
    int group;                   /* see group_of */
    int near;                    /* flags: 1 a near duplicate in its set, 2 of a row of training */
    int dropped, set;            /* flag: not written; TRAIN, VALIDATION or TEST */
} Example;

/* Rows with a label; the first of them; how many are to be held out, and are. */
typedef struct { int rows, first, quota, held; } Label;

typedef struct {
    Example *row;                /* [count], rows with errors left out */
    Label *label;                /* [count], of which those at [row.label] are used */
    int count, copies, errors;   /* rows without errors; copies among them; rows with errors */
    int kept, held, moved;       /* rows that are not dropped; held out of them; split_examples */
    int tests;                   /* rows of the test set, which `kept` leaves out */
    Text files;                  /* a line for each file: what its rows are taken for */
    const char *encoding;        /* of the file that is read */
    char *columns, *names;       /* of tables without a header: --columns or a guess; decoded */
    int labels;                  /* number of different answers, 0 if answers are free text */
    size_t prefix, suffix;       /* bytes with which all prompts begin and end: see find_frame */
} Examples;

/* Record a finding about a row, at a value in it (a column is a byte), or NULL. The row is dropped
 * if the user wants that. Always returns 0, so that functions can `return finding_add(...)`. */
__attribute__((format(printf, 4, 5)))
int finding_add(Example *e, int finding, const Json *at, const char *form, ...)
{
    va_list args;
    Text message = {0};
    int n = findings[finding].count++;
    e->dropped |= prep.drop[findings[finding].kind];
    if (n >= SHOWN) return 0;
    text_print(&message, "%s, line %d", e->path, at ? e->origin + at->line - 1 : e->line);
    if (at && at->column) text_print(&message, ", column %d", at->column);
    text_add(&message, ": ", 2);
    va_start(args, form);
    text_take(&message, format_list(form, args));
    va_end(args);
    findings[finding].shown[n] = message.bytes;
    return 0;
}

int is_blank(const char *text, size_t size)
{
    trim(&text, &size);
    return size == 0;
}

int is_utf8(Example *e, const char *text, size_t size)
{
    Json at = {.line = 1, .column = 1};
    for (size_t i = 0, length; i < size; i += length, at.column += (int)length) {
        if (!(length = utf8_length(text + i, size - i)))
            return finding_add(e, NOT_UTF8, &at, "no character; save the file as UTF-8");
        if (text[i] == '\n') at.line++, at.column = 0;
    }
    return 1;
}

/* Append a turn with a copy of the text. */
void turn_add(Example *e, int role, int is_target, const char *text, size_t size)
{
    char *copied = memcpy(allocate(size + 1, 1), text, size);
    e->turns = grow(e->turns, (size_t)e->count, sizeof *e->turns);
    e->turns[e->count++] = (Turn){role, is_target, copied, size};
}

/* The same for what somebody says, at a value of the row, in a conversation or a pair. */
void turn_say(Example *e, int role, int is_target, const Json *at, const char *text, size_t size)
{
    if (role <= ASSISTANT && memmem(text, size, "\nUser:", 6))
        finding_add(e, HEADER_IN, at, "a line that begins with \"User:\" ends an answer");
    turn_add(e, role, is_target, text, size);
}

void example_free(Example *e)
{
    for (int i = 0; i < e->count; i++) free(e->turns[i].text);
    free(e->turns), free(e->tokens.ids), free(e->tokens.loss_mask);
}

/* Take over a row, or free it if it could not be read. */
void examples_add(Examples *x, Example *e, int good)
{
    if (!good) { x->errors++, example_free(e); return; }
    x->row = grow(x->row, (size_t)x->count, sizeof *x->row);
    e->group = x->count;
    x->row[x->count++] = *e;
}

void examples_free(Examples *x)
{
    while (x->count) example_free(&x->row[--x->count]);
    free(x->row), free(x->label), free(x->files.bytes), free(x->columns), free(x->names);
}

/* ---- what the names of a row mean ----
 *
 * Whatever the format of a file, a row is an object as JSON describes it: named values. What is
 * done with a value depends on the part of an example that its name stands for. Rejected: a reader
 * for every published data set; they differ in names only. */

enum { TURNS, RULES, QUESTION, PASSAGE, AS_IS, REPLY, CLASS, PARTS };

/* A part's name in messages, and the names that stand for it: letters and digits of keys or column
 * titles, in small letters. If a row has several names of a part, the first here counts. */
const struct { const char *part, *names; } parts[PARTS] = {
    {"messages", " messages conversations "},
    {"system", " system systemprompt "},
    {"prompt", " prompt instruction question query user title headline subject premise question1 "
               "sentence1 "},
    {"text", " text sentence review input context passage message body content description comment "
             "tweet utterance document article abstract hypothesis question2 sentence2 "},
    {"completion", " completion "},
    {"answer", " answer response reply output assistant summary "},
    {"label", " labeltext labelname label category class classindex classlabel intent sentiment "
              "emotion topic rating stars target "}};

/* The part that a name stands for, or PARTS. *rank is smaller for a name that counts first. If
 * --columns renames columns (NAME=part,NAME=part), the names there count, and no others. */
int part_of(const char *name, size_t size, int *rank)
{
    const char *entry = prep.columns, *found = NULL;
    char word[32] = " ";
    size_t n = 1;
    int part = 0;
    trim(&name, &size);
    if (entry && strchr(entry, '=')) {
        while (entry && (strncasecmp(entry, name, size) || entry[size] != '='))
            if ((entry = strchr(entry, ','))) entry++;
        if (!entry) return PARTS;
        name = entry + size + 1, size = strcspn(name, ",");
    }
    for (size_t i = 0; i < size && n < sizeof word - 2; i++) {
        int c = (unsigned char)name[i];
        if (c >= 0x80 || isalnum(c)) word[n++] = (char)tolower(c);
    }
    word[n] = ' ';
    while (part < PARTS && !(found = strstr(parts[part].names, word))) part++;
    if (found) *rank = (int)(found - parts[part].names);
    return part;
}

/* Set part[p] to the member of an object that is this part, or to NULL. Returns 1 if they make an
 * example: messages, or something said and one answer; of several answers the first part counts. */
int row_parts(const Json *row, const Json *part[PARTS])
{
    int best[PARTS], rank = 0, answer = AS_IS;
    memset(part, 0, PARTS * sizeof *part);
    for (const Json *m = row->child; m; m = m->next) {
        int p = part_of(m->key, m->key_size, &rank);
        if (p < PARTS && (!part[p] || rank < best[p])) part[p] = m, best[p] = rank;
    }
    while (answer < CLASS && !part[answer]) answer++;
    for (int p = part[TURNS] ? QUESTION : answer + 1; p < PARTS; p++) part[p] = NULL;
    if (!part[TURNS] && !part[REPLY]) part[RULES] = NULL;     /* they are for conversations */
    return part[TURNS] || ((part[QUESTION] || part[PASSAGE]) && part[answer]);
}

/* Record in x->files, once, what the rows of a file in this form are taken for. */
void say_parts(Examples *x, const char *path, const char *form, const Json *const part[PARTS])
{
    Text line = {0};
    text_print(&line, "%s (%s, %s):", path, x->encoding, form);
    for (int p = 0, n = 0; p < PARTS; p++)
        if (part[p]) text_print(&line, "%s %s = \"%.40s\"", n++ ? "," : "", parts[p].part,
                                part[p]->key);
    shown(line.bytes);
    text_add(&line, "\n", 1);
    if (!x->files.size || !strstr(x->files.bytes, line.bytes))
        text_add(&x->files, line.bytes, line.size);
    free(line.bytes);
}

/* What is said of an object whose names say nothing, in new memory: its first ones, and the option
 * that helps. */
char *names_found(const Json *row)
{
    Text names = {0};
    const Json *m = row->child;
    text_print(&names, "no text and answer are recognized in ");
    for (int n = 0; m && n < 8; m = m->next, n++)
        text_print(&names, "%s\"%.20s\"", n ? ", " : "", m->key);
    text_print(&names, "%s; if these are names, --columns NAME=text,NAME=label tells what they are",
               m ? ", ..." : "");
    shown(names.bytes);
    return names.bytes;
}

/* Record that a value, a member or an element, is not what was expected ("a text"). Returns 0. */
int wrong_type(Example *e, const Json *v, const char *expected)
{
    const char *found = v->type == '{' ? "an object" : v->type == '[' ? "an array"
                      : v->type == '"' ? "a text" : v->type == '0' ? "a number"
                      : v->type == 'n' ? "null" : "a boolean";
    if (!v->key) return finding_add(e, WRONG_TYPE, v, "this is %s, not %s", found, expected);
    return finding_add(e, WRONG_TYPE, v, "\"%s\" is %s, not %s", v->key, found, expected);
}

/* ---- from a row to turns: the checks of OpenAI's cookbook, "Chat fine-tuning data preparation",
 * with the keys of its messages (role, content) or ShareGPT's (from, value) ---- */

/* Append one message of a conversation to the turns. */
int read_message(Example *e, const Json *message)
{
    static const char *const keys[4][2] = {{"role", "from"}, {"content", "value"}, {"weight", ""},
                                           {"name", ""}};
    static const char *const roles[2][3] = {{"system", "user", "assistant"},
                                            {"system", "human", "gpt"}};
    const Json *value[4];
    int r = SYSTEM;
    if (message->type != '{') return wrong_type(e, message, "an object");
    for (int k = 0; k < 4; k++) {
        const Json *v = value[k] = json_get(message, keys[k][!json_get(message, keys[k][0])]);
        if (k > 1) continue;
        if (!v) return finding_add(e, MISSING_KEY, message, "there is no \"%s\"", keys[k][0]);
        if (v->type == 'n') return finding_add(e, NO_CONTENT, v, "\"%s\" is null", v->key);
        if (v->type != '"') return wrong_type(e, v, "a text");
    }
    const Json *role = value[0], *text = value[1], *weight = value[2];
    for (const Json *m = message->child; m; m = m->next)
        if (m != role && m != text && m != weight && m != value[3])
            return finding_add(e, UNKNOWN_KEY, m, "\"%s\" is not a key that is used here", m->key);
    for (; r <= ASSISTANT; r++)
        if (!strcmp(role->text, roles[0][r]) || !strcmp(role->text, roles[1][r])) break;
    if (r > ASSISTANT)
        return finding_add(e, UNKNOWN_ROLE, role, "\"%s\" is not system, user or assistant",
                           role->text);
    if (is_blank(text->text, text->size))
        return finding_add(e, NO_CONTENT, text, "the content of a message is empty");
    int target = r == ASSISTANT, given = weight && weight->type != 'n';
    if (given && (weight->type != '0' || (weight->number != 0 && weight->number != 1)))
        return finding_add(e, WRONG_TYPE, weight, "\"weight\" is not 0 or 1");
    if (given && weight->number > target)
        return finding_add(e, UNKNOWN_KEY, weight, "\"weight\" 1 is for assistant messages");
    turn_say(e, r, given ? (int)weight->number : target, text, text->text, text->size);
    return 1;
}

/* Read a conversation. Turns after the last answer are left out: nothing replies to them. */
int read_messages(Example *e, const Json *messages)
{
    int targets = 0;
    if (messages->type != '[') return wrong_type(e, messages, "an array");
    for (const Json *m = messages->child; m; m = m->next)
        if (!read_message(e, m)) return 0;
    while (e->count && !is_answer(e->turns[e->count - 1].role)) free(e->turns[--e->count].text);
    for (int i = 0; i < e->count; i++) targets += e->turns[i].is_target;
    return targets || finding_add(e, NO_ANSWER, messages, "there is nothing to learn%s",
                                  e->count ? ": every weight is 0" : "");
}

/* Append a value to a text, with `between` if both are not empty; trimmed, unless it is taken as it
 * is. Numbers and booleans are taken as they are written. A value that is not there is empty. */
int add_value(Example *e, Text *to, const Json *v, const char *between, int as_is)
{
    text_add(to, "", 0);
    if (!v) return 1;
    if (v->type == 'n') return !as_is || finding_add(e, NO_CONTENT, v, "\"%s\" is null", v->key);
    if (v->type == '{' || v->type == '[') return wrong_type(e, v, "a text");
    const char *text = v->type == 't' ? "true" : v->type == 'f' ? "false" : v->text;
    size_t size = v->text ? v->size : strlen(text);
    if (!as_is) trim(&text, &size);
    if (to->size && size) text_add(to, between, strlen(between));
    text_add(to, text, size);
    return 1;
}

/* Make turns of what is said, the question and the text in lines of their own, and an answer. A
 * completion follows as it is; a label, after the space that GPT-2's tokens of words begin with; a
 * reply makes a conversation. */
int read_pair(Example *e, const Json *const part[PARTS])
{
    Text prompt = {0}, answer = {0};
    int a = part[AS_IS] ? AS_IS : part[REPLY] ? REPLY : CLASS, as_is = a == AS_IS;
    text_add(&answer, " ", a == CLASS);
    int good = add_value(e, &prompt, part[QUESTION], "", as_is) &&
               add_value(e, &prompt, part[PASSAGE], "\n", as_is) &&
               add_value(e, &answer, part[a], "", as_is);
    if (good && !as_is && !prompt.size)
        good = finding_add(e, NO_CONTENT, NULL, "the text is empty");
    if (good && is_blank(answer.bytes, answer.size))
        good = finding_add(e, NO_CONTENT, NULL, "the answer is empty");
    if (good && as_is && !isspace((unsigned char)*answer.bytes))
        finding_add(e, NO_SPACE, NULL, "most of GPT-2's tokens for words begin with a space");
    if (good) {
        const Json *said = part[part[QUESTION] ? QUESTION : PASSAGE];
        turn_say(e, a == REPLY ? USER : PROMPT, 0, said, prompt.bytes, prompt.size);
        turn_say(e, a == REPLY ? ASSISTANT : COMPLETION, 1, part[a], answer.bytes, answer.size);
    }
    free(prompt.bytes), free(answer.bytes);
    return good;
}

/* Read a row of a file in this form, whatever it is, and add it to the examples. */
void read_row(Examples *x, Example *e, const char *form, const Json *row)
{
    const Json *part[PARTS];
    Text rules = {0};
    int good = row->type == '{' ? row_parts(row, part) : wrong_type(e, row, "an object");
    if (!good && row->type == '{') {
        char *names = names_found(row);
        finding_add(e, MISSING_KEY, row, "%s", names);
        free(names);
    }
    for (const Json *m = row->child; m && good; m = m->next) {
        int p = 0;
        while (p < PARTS && part[p] != m) p++;
        if (p == PARTS && strcmp(m->key, "-"))
            finding_add(e, IGNORED_KEY, m, "\"%s\" is not a key that is used here", m->key);
    }
    good = good && add_value(e, &rules, part[RULES], "", 0);
    if (rules.size) turn_say(e, SYSTEM, 0, part[RULES], rules.bytes, rules.size);
    good = good && (part[TURNS] ? read_messages(e, part[TURNS]) : read_pair(e, part));
    if (good) say_parts(x, e->path, form, part);
    free(rules.bytes);
    examples_add(x, e, good);
}

/* ---- rows in JSON: an object in each line, or an array of objects ---- */

/* The array of rows that a file of JSON is, or that is under any name in the object that the file
 * is, if this object is no row. NULL if each line is a row. */
const Json *rows_array(const char *path, const Json *file)
{
    const Json *part[PARTS], *array = NULL;
    int arrays = 0;
    if (!file || (file->type == '{' && row_parts(file, part))) return NULL;
    for (const Json *v = file->type == '{' ? file->child : file; v; v = v->next)
        if (v->type == '[' && v->child && v->child->type == '{') array = v, arrays++;
    if (arrays > 1)
        die("%s: expected a row in each line, an array of rows, or an object with one such array, "
            "found an object with %d; write the array of rows to a file of its own", path, arrays);
    return array;
}

/* Read rows of JSON. A line that is wrong is one wrong row. In an array it would be uncertain where
 * the next row begins, so there it ends the program. */
void read_json(Examples *x, const char *path, const char *text, size_t size)
{
    char error[200];
    const char *open = text + strspn(text, " \t\r\n");
    Json *json = json_parse(text, size, error, sizeof error);
    const Json *array = rows_array(path, json);
    if (prep.columns && !strchr(prep.columns, '='))
        die_usage("--columns: rows of JSON have names, expected NAME=text,NAME=label");
    if (!json && *open == '[' && open[1 + strspn(open + 1, " \t\r\n")] == '{')
        die("%s, %s", path, error);
    for (const Json *v = array ? array->child : NULL; v; v = v->next)
        read_row(x, &(Example){.path = path, .line = v->line, .origin = 1}, "a JSON array", v);
    for (Lines l = {.at = text, .end = text + size}; !array && next_line(&l);) {
        Example e = {.path = path, .line = l.number, .origin = l.number};
        Json at = {0}, *row = NULL;
        int skip = 0;
        if (is_blank(l.text, l.size)) continue;
        int good = is_utf8(&e, l.text, l.size);
        if (good && !(row = json_parse(l.text, l.size, error, sizeof error))) {
            sscanf(error, "line %d, column %d: %n", &at.line, &at.column, &skip);
            finding_add(&e, NOT_JSON, &at, "%s", error + skip);
        }
        if (row) read_row(x, &e, "JSON, a row in each line", row);
        else examples_add(x, &e, 0);
        json_free(row);
    }
    json_free(json);
}

/* ---- rows of a table ----
 *
 * CSV [RFC 4180]: a field is plain text, or it is enclosed in quotes and may then contain
 * separators, line ends, and quotes, each written twice. TSV [IANA, text/tab-separated-values] has
 * no such rule: a quote is an ordinary character there. */

enum { COLUMNS = 64 };
typedef struct {
    char separator, quote;       /* quote: what encloses fields, or 0 */
    const char *text, *end;
    const char *row, *at;        /* where the last row begins; what is still to be read */
    char *fields;                /* as large as text: each field, decoded, at its place in text */
    int line;                    /* of the row, from 1 */
    const char *error;           /* what is wrong with the row, or NULL */
} Csv;

/* Read a field and the separator or line end after it; decoded, it is never longer. Returns 1 after
 * a separator. */
int csv_field(Csv *c, Json *field)
{
    int quoted = c->quote && c->at < c->end && *c->at == c->quote, open = quoted;
    char *to = field->text = c->fields + (c->at - c->text);
    for (c->at += quoted; c->at < c->end; c->at++) {
        int quote = c->quote && *c->at == c->quote;
        int twice = quote && c->at + 1 < c->end && c->at[1] == c->quote;
        if (open && quote && !twice) open = 0;
        else if (open) *to++ = *c->at, c->at += twice;
        else if (*c->at == c->separator || *c->at == '\n') break;
        else if (!quoted && !quote) *to++ = *c->at;
        else if (!quoted) c->error = "there is a quote, but not around the whole field";
        else if (*c->at != '\r') c->error = "there is text after a closing quote";
    }
    if (open) c->error = "a quote is opened and never closed";
    if (!quoted && to > field->text && to[-1] == '\r') to--;
    *to = 0;
    field->type = '"', field->line = 1, field->size = (size_t)(to - field->text);
    return c->at < c->end && *c->at++ == c->separator;
}

/* Read a row into row[0], an object, and its members row[1], ..., which keep their keys. Returns
 * how many fields it has. A wrong quote may have joined many rows, so after an error reading goes
 * on with the second line of this row. */
int csv_row(Csv *c, Json row[COLUMNS + 1])
{
    int count = 1;
    for (; c->row < c->at; c->row++) c->line += *c->row == '\n';
    c->error = NULL;
    while (csv_field(c, &row[count]) && !c->error) {
        if (count == COLUMNS) { c->error = "there are too many fields"; break; }
        row[count].next = &row[count + 1];
        count++;
    }
    row[count].next = NULL;
    row[0] = (Json){.type = '{', .line = 1, .count = (size_t)count, .child = row + 1};
    if (!c->error) return count;
    c->at = memchr(c->row, '\n', (size_t)(c->end - c->row));
    c->at = c->at ? c->at + 1 : c->end;
    return count;
}

/* Let the fields of this row be the names of all columns. */
void row_names(Json *row)
{
    for (Json *field = row->child; field; field = field->next)
        field->key = field->text, field->key_size = field->size;
}

/* Begin to read a table, with the separator for which the names in line 1 are recognized, or else
 * that for which most of the first rows have as many fields as line 1. */
Csv csv_open(const char *text, size_t size)
{
    Csv best = {0};
    char *fields = allocate(size + 1, 1);
    int most = -1;
    for (const char *p = "\t,;|"; *p; p++) {
        const char quote = *p == '\t' ? 0 : '"', *end = text + size;
        const Csv start = {*p, quote, text, end, text, text, fields, 1, NULL};
        const Json *part[PARTS];
        Json row[COLUMNS + 1] = {{0}};
        Csv c = start;
        int count = csv_row(&c, row);
        row_names(row);
        int agree = !c.error && row_parts(row, part) ? 100 : 0;
        for (int i = 0; i < 20 && c.at < c.end; i++)
            agree += csv_row(&c, row) == count && count > 1 && !c.error;
        if (agree > most) most = agree, best = start;
    }
    return best;
}

/* Guess the columns of a table without names: the label is the only column in which values repeat,
 * occurring twice or more on average, that of line 1 among them; the text is the column with the
 * most bytes of the others. Returns a list as --columns has it, in new memory, empty if no column
 * is a label. */
char *columns_guess(Csv c, int columns)
{
    Map values[COLUMNS] = {{0}};
    Text list = {0};
    size_t bytes[COLUMNS] = {0}, rows = 0;
    Json row[COLUMNS + 1] = {{0}}, first[COLUMNS];
    int label = -1, text = -1, labels = 0;
    while (c.at < c.end) {
        if (csv_row(&c, row) != columns || c.error) continue;
        if (!rows++) memcpy(first, row + 1, (size_t)columns * sizeof *row);
        for (int i = 0; i < columns; i++) {
            map_enter(&values[i], row[i + 1].text, row[i + 1].size)->value++;
            bytes[i] += row[i + 1].size;
        }
    }
    for (int i = 0; i < columns && rows; i++)
        if (values[i].count > 1 && 2 * values[i].count <= rows) label = i, labels++;
    for (int i = 0; i < columns; i++)
        if (i != label && (text < 0 || bytes[i] > bytes[text])) text = i;
    text_add(&list, "", 0);
    if (labels == 1 && map_find(&values[label], first[label].text, first[label].size)->value > 1)
        for (int i = 0; i < columns; i++)
            text_print(&list, "%s%s", i ? "," : "",
                       i == label ? "label" : i == text ? "text" : "-");
    for (int i = 0; i < columns; i++) free(values[i].entry);
    return list.bytes;
}

/* Name the columns of a table, whose line 1 is in `row`: by --columns, by line 1 or, if its names
 * say nothing, by a guess, which holds for all further files. Returns whether line 1 is a header;
 * dies if that cannot be said. */
int table_names(Examples *x, const char *path, const Csv *start, Json row[COLUMNS + 1])
{
    const Json *part[PARTS];
    int columns = (int)row->count;
    row_names(row);
    int header = row_parts(row, part);
    if (header && (!prep.columns || strchr(prep.columns, '='))) return 1;
    char *names = names_found(row);
    if (!x->columns) {
        x->columns = prep.columns ? format("%s", prep.columns) : columns_guess(*start, columns);
        x->names = format("%s", x->columns);
    }
    const char *list = x->columns, *end = list + strlen(list);
    int listed = csv_row(&(Csv){',', 0, list, end, list, list, x->names, 1, NULL}, row);
    row_names(row);
    if (listed != columns || !row_parts(row, part))
        die("%s, line 1: %s; if they are a row, --columns label,text tells what its %d columns are",
            path, names, columns);
    return header;
}

/* Read a table. */
void read_table(Examples *x, const char *path, const char *text, size_t size)
{
    const Csv start = csv_open(text, size);
    Csv c = start;
    Json row[COLUMNS + 1] = {{0}};
    int columns = csv_row(&c, row);
    if (c.error) die("%s, line 1: %s", path, c.error);
    int header = table_names(x, path, &start, row);
    char *form = format("columns separated by %s, %s%s", c.separator == '\t' ? "tabs"
                        : c.separator == ',' ? "commas" : c.separator == ';' ? "semicolons"
                        : "bars", header ? "a header" : "no header: ", header ? "" : x->columns);
    if (!header) c = start;
    while (c.at < c.end) {
        int count = csv_row(&c, row);
        Example e = {.path = path, .line = c.line, .origin = c.line};
        size_t length = (size_t)(c.at - c.row);
        if (is_blank(c.row, length)) continue;
        if (c.error) finding_add(&e, NOT_CSV, NULL, "field %d: %s", count, c.error);
        else if (count != columns)
            finding_add(&e, NOT_CSV, NULL, "%d fields, not %d as in line 1", count, columns);
        if (!c.error && count == columns && is_utf8(&e, c.row, length)) read_row(x, &e, form, row);
        else examples_add(x, &e, 0);
    }
    free(start.fields), free(form);
}

/* ---- files ---- */

/* The text of a file as UTF-8, in new memory, without its byte order mark. Half of a pair of units
 * in UTF-16 becomes a byte that is not UTF-8, which is found with its row. */
Text text_read(const char *path, const char **encoding)
{
    Text file = {0}, to = {0};
    char code[4];
    file.bytes = read_file(path, &file.size);
    const unsigned char *s = (const unsigned char *)file.bytes;
    size_t mark = file.size > 2 && !memcmp(s, "\xEF\xBB\xBF", 3) ? 3 : 0, high = *s == 0xFF;
    int wide = file.size > 1 && (!memcmp(s, "\xFF\xFE", 2) || !memcmp(s, "\xFE\xFF", 2));
    *encoding = wide ? "UTF-16" : "UTF-8";
    for (size_t i = 2; wide && i < file.size; i += 2) {
        uint32_t c = i + 1 < file.size ? s[i + high] * 256u + s[i + !high] : 0xDFFF;
        uint32_t low = i + 3 < file.size ? s[i + 2 + high] * 256u + s[i + 2 + !high] : 0;
        if (c >= 0xD800 && c < 0xDC00 && low >= 0xDC00 && low < 0xE000)
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00), i += 2;
        if (c >= 0xD800 && c < 0xE000) text_add(&to, "\xFF", 1);
        else text_add(&to, code, utf8_encode(code, c));
    }
    text_add(&to, file.bytes + mark, wide ? 0 : file.size - mark);
    if (memchr(to.bytes, 0, to.size))
        die("%s: expected text, found a byte that is zero; save the file as CSV or JSON in UTF-8",
            path);
    free(file.bytes);
    return to;
}

/* Read the rows of a file. It is JSON or a table by its name, or else by its first character. */
void read_examples(Examples *x, const char *path)
{
    Text text = text_read(path, &x->encoding);
    char first = text.bytes[strspn(text.bytes, " \t\r\n")];
    int table = ends_with(path, ".csv") || ends_with(path, ".tsv");
    int json = ends_with(path, ".jsonl") || ends_with(path, ".json");
    if (!table && !json) json = first == '{' || first == '[';
    (json ? read_json : read_table)(x, path, text.bytes, text.size);
    free(text.bytes);
}

/* ---- groups of rows that say the same, and contradictions ----
 *
 * If one of two equal rows were trained on and the other validated, the validation loss would
 * measure memory, not what the model makes of new rows. Therefore duplicates and near duplicates
 * form groups, which the split keeps together. A group is a tree [union-find, Galler & Fischer
 * 1964]: each row points to an earlier row of its group, and the first row to itself. */

/* The first row of the group of row i. Shortens the path to it on the way. */
int group_of(Examples *x, int i)
{
    while (x->row[i].group != i) i = x->row[i].group = x->row[x->row[i].group].group;
    return i;
}

/* Make one group of those of rows i and j. */
void group_join(Examples *x, int i, int j)
{
    int a = group_of(x, i), b = group_of(x, j);
    x->row[max_int(a, b)].group = min_int(a, b);
}

/* Enter row i in a map under its tokens from `begin` to `end`; returns the first row there. */
int first_with(Map *map, const Examples *x, int i, size_t begin, size_t end)
{
    const int32_t *ids = x->row[i].tokens.ids + begin;
    MapEntry *entry = map_enter(map, (const char *)ids, (end - begin) * sizeof *ids);
    if (!entry->value) entry->value = i + 1;
    return (int)entry->value - 1;
}

/* Compare rows by tokens. Equal rows become groups; rows that differ only in the last answer are
 * conflicts. Answers are labels if each of them occurs four times or more on average; if they are
 * free text, all rows have label 0. */
void find_repeated(Examples *x)
{
    Map rows = {0}, prompts = {0}, answers = {0};
    int *other = allocate((size_t)x->count, sizeof *other);    /* [same_prompt]; 0: none differs */
    for (int i = 0; i < x->count; i++) {
        Example *e = &x->row[i];
        size_t answer = e->tokens.answer, size = e->tokens.size;
        e->equal = first_with(&rows, x, i, 0, size);
        e->same_prompt = answer ? first_with(&prompts, x, i, 0, answer) : e->equal;
        e->label = first_with(&answers, x, i, answer, size);
        if (e->equal != e->same_prompt && !other[e->same_prompt]) other[e->same_prompt] = i;
        if (e->equal == i) continue;
        const Example *first = &x->row[e->equal];
        group_join(x, i, e->equal);
        finding_add(e, e->set > first->set ? LEAKED : REPEATED, NULL, "of %s, line %d",
                    first->path, first->line);
    }
    x->labels = 4 * answers.count <= (size_t)x->count ? (int)answers.count : 0;
    for (int i = 0; i < x->count; i++) {
        Example *e = &x->row[i];
        int first = e->same_prompt, differs = e->equal == first ? other[first] : first;
        if (!x->labels) e->label = 0;
        if (other[first]) finding_add(e, CONFLICT, NULL, "the prompt of %s, line %d",
                                      x->row[differs].path, x->row[differs].line);
    }
    free(rows.entry), free(prompts.entry), free(answers.entry), free(other);
}

/* Find the frame: the text with which all prompts begin ("Review: ") and end ("\nSentiment:"). It
 * says nothing about a single row, so near duplicates and augmentation do not look at it. The
 * prefix ends in white space, the suffix begins with it, so that no word is divided. */
void find_frame(Examples *x)
{
    const Turn *first = x->row[0].turns;
    size_t prefix = x->count > 1 ? first->size : 0, suffix = prefix, shortest = first->size;
    for (int i = 0; i < x->count; i++) {
        const Turn *t = x->row[i].turns;
        size_t p = 0, s = 0;
        if (t->role != PROMPT) return;
        if (t->size < shortest) shortest = t->size;
        while (p < prefix && p < t->size && t->text[p] == first->text[p]) p++;
        while (s < suffix && s < t->size &&
               t->text[t->size - 1 - s] == first->text[first->size - 1 - s]) s++;
        prefix = p, suffix = s;
    }
    while (prefix && !isspace((unsigned char)first->text[prefix - 1])) prefix--;
    while (suffix && !isspace((unsigned char)first->text[first->size - suffix])) suffix--;
    x->prefix = prefix;
    x->suffix = prefix + suffix <= shortest ? suffix : 0;
}

/* The bytes *begin to *end of a turn are its own, without the frame. */
void turn_own(const Examples *x, const Turn *t, size_t *begin, size_t *end)
{
    *begin = t->role == PROMPT ? x->prefix : 0;
    *end = t->size - (t->role == PROMPT ? x->suffix : 0);
}

/* ---- near duplicates ----
 *
 * The shingles of a row are its runs of three words: "a b c d" has "a b c" and "b c d". Two rows
 * with sets A and B of shingles are near duplicates if |A and B| / |A or B|, Jaccard's similarity,
 * is at least 0.8. To compare all pairs would take hours for a hundred thousand rows.
 *
 * Prefix filtering [Bayardo et al. 2007] finds the few pairs to compare. Sort every set in one
 * order that is the same for all rows. If A has 10 shingles, a near duplicate B shares at least 8
 * of them. The first that is shared has 7 others behind it, so it is one of A's first 3: in
 * general, of the first n - ceil(0.8 n) + 1, the prefix of the set. The same holds for B. So near
 * duplicates meet in an index that lists, for each shingle, the rows with it in their prefix.
 *
 * Rare shingles come first in the order, so that lists are short. Counts and lists are kept by the
 * shingle's hash modulo BUCKETS: two shingles that fall together cost a comparison, never a result.
 * Only of lists longer than LATEST, as form letters make them, the older rows are not tried.
 * Rejected: MinHash, which is not shorter and misses pairs at random. */
enum { BUCKETS = 1 << 20, LATEST = 1000 };

/* The shingles of row i: hash[start[i]] ... hash[start[i + 1] - 1]; 48 bits, above them a count. */
typedef struct { uint64_t *hash; size_t size, *start; } Shingles;

/* Append the shingle of three words, given by their hashes. */
void shingle_add(Shingles *s, const uint64_t word[3])
{
    s->hash = grow(s->hash, s->size, sizeof *s->hash);
    s->hash[s->size++] = hash_bytes((const char *)word, 24) & 0xFFFFFFFFFFFF;
}

/* Append the shingles of a row. A word is a run of letters and digits, in upper or lower case; one
 * or two words are one shingle. What the system says, and the frame, is left out. */
void shingles_of(Shingles *s, const Examples *x, const Example *e)
{
    uint64_t word[3] = {0}, hash = 0;
    size_t words = 0, i, end;
    for (const Turn *t = e->turns; t < e->turns + e->count; t++) {
        if (t->role == SYSTEM) continue;
        for (turn_own(x, t, &i, &end); i <= end; i++) {
            int c = i < end ? (unsigned char)t->text[i] : ' ', in_word = c >= 0x80 || isalnum(c);
            if (in_word) hash = (hash ^ (uint64_t)tolower(c)) * 0x100000001B3;
            if (in_word || !hash) continue;
            word[0] = word[1], word[1] = word[2], word[2] = hash, hash = 0;
            if (++words >= 3) shingle_add(s, word);
        }
    }
    if (words == 1 || words == 2) shingle_add(s, word);
}

int shingle_order(const void *a, const void *b)
{
    uint64_t p = *(const uint64_t *)a, q = *(const uint64_t *)b;
    return (p > q) - (p < q);
}

/* The sets of all rows, each sorted, rare shingles first. */
Shingles shingles_new(const Examples *x)
{
    Shingles s = {NULL, 0, allocate((size_t)x->count + 1, sizeof(size_t))};
    uint64_t *occurs = allocate(BUCKETS, sizeof *occurs);
    size_t begin = 0, kept = 0;
    for (int i = 0; i < x->count; i++) {
        shingles_of(&s, x, &x->row[i]);
        s.start[i + 1] = s.size;
    }
    for (size_t k = 0; k < s.size; k++) occurs[s.hash[k] % BUCKETS]++;
    for (size_t k = 0; k < s.size; k++) {
        uint64_t n = occurs[s.hash[k] % BUCKETS];
        s.hash[k] |= (n < 0xFFFF ? n : 0xFFFF) << 48;
    }
    for (int i = 0; i < x->count; i++) {                       /* sort; keep one of equal ones */
        size_t end = s.start[i + 1], first = kept;
        if (end > begin) qsort(s.hash + begin, end - begin, sizeof *s.hash, shingle_order);
        for (; begin < end; begin++)
            if (kept == first || s.hash[begin] != s.hash[kept - 1]) s.hash[kept++] = s.hash[begin];
        s.start[i + 1] = kept;
    }
    free(occurs);
    return s;
}

/* Compare row i with an earlier row. If they are near duplicates, join their groups and, the first
 * time for i, record it. */
void compare_rows(Examples *x, const Shingles *s, int i, int earlier)
{
    Example *e = &x->row[i], *other = &x->row[earlier];
    const uint64_t *a = s->hash + s->start[i], *a_end = s->hash + s->start[i + 1];
    const uint64_t *b = s->hash + s->start[earlier], *b_end = s->hash + s->start[earlier + 1];
    long n = a_end - a, m = b_end - b, common = 0;
    int kind = e->set > other->set ? 2 : 1;
    if (5 * m < 4 * n || 5 * n < 4 * m) return;                /* sizes too different for 0.8 */
    if (e->near & kind && group_of(x, i) == group_of(x, earlier)) return;
    while (a < a_end && b < b_end) {
        uint64_t p = *a, q = *b;
        common += p == q, a += p <= q, b += q <= p;
    }
    double similarity = (double)common / (double)(n + m - common);
    if (similarity < 0.8) return;
    if (!(e->near & kind))
        finding_add(e, kind == 2 ? LEAKED_NEAR : SIMILAR, NULL, "%.0f%% the same as %s, line %d",
                    100 * similarity, other->path, other->line);
    e->near |= kind;
    group_join(x, i, earlier);
}

/* Find near duplicates among rows that are not equal, and join them into groups. */
void find_similar(Examples *x)
{
    Shingles s = shingles_new(x);
    struct { int row, next; } *entry = allocate(s.start[x->count] + 1, sizeof *entry);
    int *newest = allocate(BUCKETS, sizeof *newest);           /* entry of each list; 0: none */
    int *met = allocate((size_t)x->count, sizeof *met), entries = 0;   /* last row that met it */
    for (int i = 0; i < x->count; i++) {
        size_t from = s.start[i], n = s.start[i + 1] - from;
        size_t prefix = n ? n - (4 * n + 4) / 5 + 1 : 0;       /* ceil(0.8 n) = (4n + 4) / 5 */
        if (x->row[i].equal != i) continue;
        met[i] = i;
        for (size_t k = from; k < from + prefix; k++) {
            int *list = &newest[s.hash[k] % BUCKETS], steps = 0;
            for (int at = *list; at && steps < LATEST; at = entry[at].next, steps++) {
                if (met[entry[at].row] == i) continue;
                met[entry[at].row] = i;
                compare_rows(x, &s, i, entry[at].row);
            }
            entry[++entries].row = i;
            entry[entries].next = *list;
            *list = entries;
        }
    }
    free(s.hash), free(s.start), free(entry), free(newest), free(met);
}

/* ---- the split ---- */

/* Count the rows that are kept, and hold out `share` of each label's rows for validation, at
 * random. A row that has a duplicate or near duplicate stays in training (x->moved counts these),
 * and another row is drawn for it. */
void split_examples(Examples *x, double share, uint64_t key)
{
    int *kept = allocate((size_t)x->count, sizeof *kept), n = 0;
    int *size = allocate((size_t)x->count, sizeof *size);      /* [group_of] */
    x->label = allocate((size_t)x->count, sizeof *x->label);
    for (int i = 0; i < x->count; i++) {
        Label *l = &x->label[x->row[i].label];
        x->tests += x->row[i].set == TEST && !x->row[i].dropped;
        if (x->row[i].dropped || x->row[i].set == TEST) continue;
        if (l->rows++ == 0) l->first = i;
        kept[n++] = i, size[group_of(x, i)]++;
    }
    double ratio = n > 1 && share > 0 ? fmin(fmax(round(n * share), 1), n - 1) / n : 0, rows = 0;
    for (Label *l = x->label; l < x->label + x->count; l++) {  /* the quotas' sum is rounded, too */
        double before = round(rows * ratio);
        rows += l->rows;
        l->quota = (int)(round(rows * ratio) - before);
    }
    int *order = shuffled(n, key);
    for (int k = n - 1; k >= 0; k--) {
        Example *e = &x->row[kept[order[k]]];
        Label *l = &x->label[e->label];
        if (l->held == l->quota) continue;
        if (size[group_of(x, kept[order[k]])] > 1) { x->moved++; continue; }
        e->set = VALIDATION, l->held++, x->held++;
    }
    for (Example *e = x->row; x->labels && e < x->row + x->count; e++) {
        int rows = x->label[e->label].rows;
        if (e->set == TEST && !rows)
            finding_add(e, NEW_ANSWER, NULL, "no training on these rows can teach it");
        if (e->set != TEST && rows == 1 && !e->dropped)
            finding_add(e, LONE_ANSWER, NULL, "too few to learn it from, or no label at all");
    }
    x->kept = n;
}

/* ---- augmentation: copies of training rows with what the user says changed ---- */

enum { CASE, TYPOS, DROP };

/* Append a changed copy of s. CASE: all letters small, or all capitals. TYPOS: of letters that a
 * letter follows, one in twenty is lost, doubled or exchanged with the next. DROP: one word in
 * eight is lost, with the space before it. */
void augment_text(Text *to, int how, const char *s, size_t size, uint64_t key)
{
    enum { LOSE, REPEAT, EXCHANGE, NONE };
    int upper = random_bits(key, 0) % 2, lost = 0;
    for (size_t i = 0; i < size; i++) {
        int c = (unsigned char)s[i], next = i + 1 < size ? (unsigned char)s[i + 1] : 0, typo = NONE;
        double u = random_uniform(key, (uint32_t)i + 1);
        if (how == CASE) c = upper ? toupper(c) : tolower(c);
        if (how == TYPOS && isalpha(c) && isalpha(next)) typo = (int)(60 * u);
        if (how == DROP && (i == 0 || isspace(c))) lost = u < 1. / 8;
        if (lost || typo == LOSE) continue;
        if (typo == REPEAT) text_add(to, &s[i], 1);
        if (typo == EXCHANGE) text_add(to, &s[++i], 1);
        text_add(to, &(char){(char)c}, 1);
    }
}

/* Make a changed copy of e; returns 0, and makes none, if nothing would change. A text of which
 * nothing would be left stays as it is. */
int augment(Example *copy, const Example *e, const Examples *x, int how, uint64_t key)
{
    int changed = 0;
    Text to = {0};
    *copy = (Example){.path = e->path, .line = e->line, .label = e->label};
    for (int i = 0; i < e->count; i++) {
        const Turn *t = &e->turns[i];
        size_t begin, end;
        turn_own(x, t, &begin, &end);
        if (t->role != USER && t->role != PROMPT) begin = end;
        to.size = 0;
        text_add(&to, t->text, begin);
        augment_text(&to, how, t->text + begin, end - begin, random_key(key, (uint64_t)i));
        if (is_blank(to.bytes + begin, to.size - begin)) to.size = 0, text_add(&to, t->text, end);
        text_add(&to, t->text + end, t->size - end);
        changed |= to.size != t->size || memcmp(to.bytes, t->text, t->size);
        turn_add(copy, t->role, t->is_target, to.bytes, to.size);
    }
    free(to.bytes);
    if (!changed) example_free(copy);
    return changed;
}

/* Append changed copies of training rows, a share prep.augment[how] of them. */
void augment_examples(Examples *x, Tokenizer *t)
{
    int originals = x->count;
    for (int how = CASE; how <= DROP; how++)
        for (int i = 0; i < originals; i++) {
            Example copy, e = x->row[i];
            uint64_t key = random_key(random_key((uint64_t)prep.seed, how + 1u), (uint64_t)i);
            if (e.dropped || e.set || random_uniform(key, 0) >= prep.augment[how]) continue;
            if (!augment(&copy, &e, x, how, key)) continue;
            copy.tokens = turns_encode(t, copy.turns, copy.count);
            examples_add(x, &copy, 1);
            x->copies++, x->kept++, x->label[e.label].rows++;
        }
}

/* ---- the report ---- */

/* The tokens of a set as its file holds them:
 * <|endoftext|> example <|endoftext|> ... example <|endoftext|>. */
Tokens tokens_of(const Examples *x, int set, const Tokenizer *t)
{
    Tokens docs = documents_new(format("%s_%s.bin", prep.out, set_files[set]), t);
    for (const Example *e = x->row; e < x->row + x->count; e++) {
        if (e->dropped || e->set != set) continue;
        for (size_t i = 0; i < e->tokens.size; i++)
            tokens_push(&docs, e->tokens.ids[i], e->tokens.loss_mask[i]);
        tokens_push(&docs, t->end_of_text, e->turns[e->count - 1].is_target);
    }
    return docs;
}

void report_findings(Writer *records)
{
    Table all = {.title = "Findings"}, rows = {.title = "Where"};
    for (int f = 0; f < FINDING_COUNT; f++) {
        int kind = findings[f].kind, drop = prep.drop[kind];
        if (!findings[f].count) continue;
        if (!all.rows) table_row(&all, "finding\trows\twhat was done");
        if (!rows.rows) table_row(&rows, "the first of each");
        table_row(&all, "%s\t%d\t%s%s", findings[f].what, findings[f].count,
                  kind == NOTES ? "noted" : drop ? "left out"
                  : kind == ERRORS ? "nothing is written without --drop-"
                  : "kept; left out by --drop-", drop ? "" : kind_names[kind]);
        for (int n = 0; n < SHOWN && findings[f].shown[n]; n++)
            table_row(&rows, "%s: %s", findings[f].what, findings[f].shown[n]);
    }
    if (all.rows) table_done(&all, records), table_done(&rows, records);
}

void report_examples(const Examples *x, const Tokens set[SETS], Writer *records)
{
    const int rows[] = {x->kept - x->held, x->held, x->tests};
    Table t = {.title = "Examples"};
    Text note = {0};
    table_row(&t, "\texamples\ttokens\ttargets that count");
    for (int s = 0; s < SETS - !prep.test; s++) {
        size_t targets = 0;
        for (size_t i = 0; i < set[s].count; i++) targets += set[s].loss_mask[i];
        table_row(&t, "%s\t%d\t%zu\t%zu", set_names[s], rows[s], set[s].count, targets);
    }
    text_print(&note, "%d rows read, %d with errors, %d left out.",
               x->count - x->copies + x->errors, x->errors, x->count - x->kept - x->tests);
    if (x->copies) text_print(&note, " %d changed copies were added to training.", x->copies);
    if (x->moved) text_print(&note, " %d of the rows drawn for validation stayed in training, "
                             "because duplicates of them are there.", x->moved);
    if (x->kept < 10) text_print(&note, " Fewer than 10 examples are very few.");
    t.note = note.bytes;
    table_done(&t, records);
}

int label_order(const void *a, const void *b)             /* most frequent first */
{
    const Label *p = a, *q = b;
    return p->rows != q->rows ? (p->rows < q->rows) - (p->rows > q->rows) : p->first - q->first;
}

/* The balance of the labels, which are named by the beginning of the answer, in whole characters.
 * Sorts x->label by frequency. */
void report_answers(Examples *x, Writer *records)
{
    enum { MOST = 20, BYTES = 40 };                       /* rows of the table; of an answer */
    Table t = {.title = "Answers", .kind = "bars"};
    const Label *label = x->label;
    int labels = 0;
    qsort(x->label, (size_t)x->count - x->copies, sizeof *label, label_order);
    table_row(&t, "answer\texamples\tshare\ttraining\tvalidation");
    for (const Label *l = label; labels < x->labels && l->rows; l++, labels++) {
        const Turn *answer = &x->row[l->first].turns[x->row[l->first].count - 1];
        const char *text = answer->text;
        size_t size = answer->size;
        trim(&text, &size);
        if (size > BYTES)
            for (size = BYTES; size && ((unsigned char)text[size] & 0xC0) == 0x80; size--) {}
        if (labels < MOST)
            table_row(&t, "%.*s\t%d\t%.1f%%\t%d\t%d", (int)size, text, l->rows,
                      100. * l->rows / x->kept, l->rows - l->held, l->held);
    }
    int even = label[0].rows <= 3 * label[labels - 1].rows;
    char *note = format("%d different answers%s. Always giving the first is right in %.1f%%.%s",
        labels, labels > MOST ? ", here the most frequent" : "", 100. * label[0].rows / x->kept,
        even ? "" : " They are out of balance: look at macro-F1, not at accuracy.");
    t.note = note;
    table_done(&t, records);
}

void report_lengths(const Examples *x, Writer *records)
{
    static const char *const names[] = {"before the last answer", "last answer", "example"};
    double *length = allocate((size_t)x->count, sizeof *length);
    Table t = {.title = "Tokens"};
    table_row(&t, "\tmean\tleast\t5%%\t25%%\tmedian\t75%%\t95%%\tmost");
    for (int k = 0; k < 3; k++) {
        double sum = 0, *l = length;
        int last = -1;
        for (const Example *e = x->row; e < x->row + x->count; e++) {
            size_t before = e->tokens.answer, all = e->tokens.size;
            if (!e->dropped) sum += l[++last] = k == 0 ? before : k == 1 ? all - before : all;
        }
        qsort(l, (size_t)last + 1, sizeof *l, by_value);
        table_row(&t, "%s\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f", names[k],
                  sum / (last + 1), l[0], l[last / 20], l[last / 4], l[last / 2],
                  l[last - last / 4], l[last - last / 20], l[last]);
    }
    table_done(&t, records);
}

/* Add what training prep.model takes: memory, and the time at 70% of this machine's peak, which is
 * measured; also with the options that save memory. */
void report_model(Table *t, const Tokens *train, const Tokenizer *tokenizer, int epochs)
{
    enum { B = 4 };
    Model *m = model_read(prep.model);
    int T = min_int(prep.context, m->c.T);
    tokenizer_fit(m, tokenizer, prep.tokenizer);
    DataLoader loader = loader_new(train, T, tokenizer->end_of_text, 1, 0, 0);
    double steps = ceil((double)loader.rows / B), peak = machine_peak();
    table_row(t, "parameters of the model\t%zu", m->count);
    table_row(t, "flops in an epoch\t%.3g", 6.0 * m->count * train->count);
    table_row(t, "steps of %d x %d in an epoch\t%.0f", B, T, steps);
    for (int i = -1; i < SAVINGS; i++) {
        Model other = i < 0 ? *m : model_saving(m, i);
        double minutes = epochs * steps * step_seconds(&other, B, T, 1, peak) / 60;
        double GB = training_memory(&other, B, T).all / 1e9;
        table_row(t, "%d epochs%s%s\t%.2f GB, about %.2g minutes", epochs, i < 0 ? "" : " with ",
                  i < 0 ? "" : savings[i].options, GB, minutes);
    }
}

/* Training takes 6 flops per parameter and token, 2 forward and 4 backward [Kaplan et al. 2020].
 * The alternative, `added` tokens of examples in every prompt, takes 2 per parameter and token.
 * Both cost the same after 6 tokens epochs / (2 added) prompts, whatever the model. Epochs to begin
 * with are OpenAI's: 3, or as many as show 100 to 25,000 examples, but at most 25. Positions are
 * rows times their length; padding fills those without a token. */
void report_cost(const Tokens *train, const Examples *x, const Tokenizer *tokenizer,
                 Writer *records)
{
    static const char *const names[] = {"padded to the context", "padded to the longest", "packed"};
    DataLoader loader = loader_new(train, prep.context, tokenizer->end_of_text, 0, 0, 0);
    int n = x->kept - x->held;
    int epochs = 3 * n < 100 ? min_int(25, 100 / n) : 3 * n > 25000 ? max_int(1, 25000 / n) : 3;
    double tokens = (double)train->count, added = prep.shots * tokens / n, seen = 0, longest = 0;
    Table t = {.title = "Cost", .note = prep.model ? NULL : "--model FILE adds memory and minutes"};
    for (const Segment *d = loader.file_order; d < loader.file_order + loader.count; d++)
        seen += d->length, longest = fmax(longest, d->length);
    double lengths[] = {prep.context, longest, prep.context};
    table_row(&t, "what\thow much");
    table_row(&t, "tokens in an epoch\t%.0f", tokens);
    for (int k = 0; k < 3; k++) {
        double positions = lengths[k] * (k < 2 ? loader.count : loader.rows);
        table_row(&t, "positions, if examples are %s\t%.0f, %.1f%% used", names[k], positions,
                  100 * seen / positions);
    }
    table_row(&t, "epochs to begin with\t%d", epochs);
    if (prep.model) report_model(&t, train, tokenizer, epochs);
    table_row(&t, "tokens that %d examples add to a prompt\t%.0f", prep.shots, added);
    table_row(&t, "prompts after which training is cheaper\t%.0f",
              ceil(3 * tokens * epochs / added));
    table_done(&t, records);
}

/* ---- the command ---- */

/* Encode the rows, and find all that can be found before the split. */
void examine(Examples *x, Tokenizer *t)
{
    if (!x->count) return;
    for (Example *e = x->row; e < x->row + x->count; e++) {
        e->tokens = turns_encode(t, e->turns, e->count);
        int inputs = (int)e->tokens.size + 1;             /* with <|endoftext|> before it */
        if (inputs > prep.context)
            finding_add(e, TOO_LONG, NULL, "%d tokens, of which training never sees the first %d",
                        inputs, inputs - prep.context);
    }
    find_frame(x);
    find_repeated(x);
    find_similar(x);
}

/* Add changed copies, make the sets, and report on them. */
void make_sets(Examples *x, Tokens set[SETS], Tokenizer *t, Writer *records)
{
    augment_examples(x, t);
    for (int s = 0; s < SETS; s++) set[s] = tokens_of(x, s, t);
    report_examples(x, set, records);
    if (x->labels) report_answers(x, records);
    report_lengths(x, records);
    report_cost(&set[TRAIN], x, t, records);
}

int command_examples(int words, char **word)
{
    Examples x = {0};
    Tokens set[SETS] = {{0}};
    Tokenizer *t = tokenizer_for_tokens(prep.tokenizer);
    char *path = format("%s_report.jsonl", prep.out);
    Writer *records = writer_open(path);
    for (int i = 0; i < words; i++) read_examples(&x, word[i]);
    int i = x.count;
    if (prep.test) read_examples(&x, prep.test);
    for (; i < x.count; i++) x.row[i].set = TEST;
    if (x.files.size) printf("%s", x.files.bytes);
    examine(&x, t);
    split_examples(&x, prep.val, random_key((uint64_t)prep.seed, 0));
    if (x.kept) make_sets(&x, set, t, records);
    report_findings(records);
    if (x.errors && !prep.drop[ERRORS])
        die("%d of %d rows have errors, and nothing is written; correct them, or leave them out "
            "with --drop-errors", x.errors, x.errors + x.count - x.copies);
    if (!x.kept) die("%s: no examples are left, and nothing is written", word[0]);
    if (prep.val > 0 && !x.held)
        die("no row is left for validation: there are too few, or all have duplicates "
            "(--drop-duplicates, --drop-near); --val 0 does without");
    if (prep.test && !x.tests) die("%s: no row is left for the test", prep.test);
    writers_begin();
    writer_close(records);
    sets_write(set, SETS);
    writers_commit();
    printf("\nwritten: %s", path);
    for (int s = 0; s < SETS; s++) if (set[s].count > 1) printf(", %s", set[s].path);
    printf("\n");
    return 0;
}

/* ================================================================================================
 * 9. The report
 *
 * A run leaves plain records: log.csv with a line for each step, run.txt with its settings, samples
 * and tables. This chapter makes one page of them, report.html, without script, font or image from
 * elsewhere. All text out of a record is escaped; the section of a missing record is left out.
 *
 * A chart is inline SVG, stretched to the width of the page, while its lines keep their width
 * (non-scaling-stroke) and its words, HTML placed by percentages, keep their size. So one drawing
 * serves a desktop and a phone. Rejected: a plotting program, which is a dependency.
 */

const char report_style[] =
    ":root{--paper:#fcfbf8;--ink:#22252a;--soft:#5d636b;--rule:#e3e0d9;--raised:#f4f2ec;"
    "--blue:33 96 158;--red:172 62 18}@media(prefers-color-scheme:dark){:root{--paper:#15171b;"
    "--ink:#e4e3df;--soft:#a3a8b0;--rule:#30343b;--raised:#1d2026;--blue:122 178 238;"
    "--red:240 150 96}}*{box-sizing:border-box}html{color-scheme:light dark}"
    "body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem 4rem;background:var(--paper);"
    "color:var(--ink);font:16px/1.6 system-ui,'Segoe UI',Roboto,sans-serif}"
    "h1,h2{font:500 1.5rem/1.2 Palatino,Georgia,serif}h1{font-size:clamp(1.9rem,6vw,2.9rem);"
    "margin:.2em 0 .35em}h2{margin:3rem 0 1rem;padding-top:1rem;border-top:1px solid var(--rule)}"
    "h3{font-size:.95rem;margin:1.4rem 0 .4rem}p{margin:.4rem 0;max-width:44rem}"
    ".soft{color:var(--soft);font-size:.9rem}.lead{font-size:1.15rem}"
    ".blue{color:rgb(var(--blue));stroke:rgb(var(--blue))}"
    "b,.red{color:rgb(var(--red));stroke:rgb(var(--red))}h1 b{font-weight:500}"
    ".warn{border-left:3px solid rgb(var(--red));padding:.1rem 0 .1rem .9rem;margin:1rem 0}"
    "article{margin:1.2rem 0 2.2rem}figure{margin:1.2rem 0 0}.chart{position:relative;height:21rem;"
    "margin:2rem .8rem 3.4rem 3.4rem;font-size:.75rem;line-height:1;color:var(--soft)}"
    ".small{height:10rem}.chart svg{position:absolute;width:100%;height:100%;overflow:visible}"
    "path{fill:none;stroke-linejoin:round;vector-effect:non-scaling-stroke;stroke-width:1.8}"
    ".grid,.dash,.faint{stroke-width:1}.grid{stroke:var(--rule)}.faint{opacity:.35}"
    ".dash{stroke-dasharray:2 4}.dots,.best{stroke-width:6;stroke-linecap:round}"
    ".best{stroke-width:11}"
    ".chart span{position:absolute;white-space:nowrap}.y{right:100%;margin-right:.6rem;"
    "transform:translateY(-50%)}.x{top:100%;margin-top:.7rem;transform:translateX(-50%)}"
    ".unit{right:0;top:100%;margin-top:2rem}.mark{bottom:100%;margin:0 0 .4rem}"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:0 2rem}"
    ".tables{display:flex;flex-wrap:wrap;gap:0 4rem}section{max-width:100%}.scroll{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}th,td{"
    "text-align:left;padding:.32rem 1.1rem .32rem 0;vertical-align:top;font-weight:400;"
    "border-bottom:1px solid var(--rule)}thead th{color:var(--soft)}tbody th{min-width:7rem}"
    ".n{text-align:right;white-space:nowrap}.bar{width:12rem;min-width:5rem;vertical-align:middle}"
    ".bar i{display:block;height:.7rem;background:rgb(var(--blue)/.75)}.heat td,.heat th+th{"
    "text-align:center}.heat td{padding:.45rem .8rem;min-width:3.6rem;"
    "border:1px solid var(--paper)}.heat tbody th{vertical-align:middle;min-width:0}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;font:.86rem/1.55 ui-monospace,Menlo,"
    "Consolas,monospace;background:var(--raised);padding:.7rem .9rem;border-radius:4px;margin:0}"
    "@media(max-width:40rem){.chart{height:15rem}.small{height:9rem}.heat td,.heat th+th{"
    "padding:.4rem;min-width:2rem;font-size:.8rem}}";

/* Add text in which HTML finds no markup of its own, whatever bytes it holds. */
void html_text(Text *page, const char *text, size_t size)
{
    for (size_t i = 0, length; i < size; i += length ? length : 1) {
        unsigned char c = (unsigned char)text[i];
        length = utf8_length(text + i, size - i);
        if (!length || c == 0x7F || (c < ' ' && c != '\n' && c != '\t')) text_print(page, "\uFFFD");
        else if (strchr("&<>\"'", c)) text_print(page, "&#%d;", c);
        else text_add(page, text + i, length);
    }
}

/* Add <tag>text</tag>; the tag may have attributes, the text is escaped. */
__attribute__((format(printf, 3, 4)))
void html(Text *page, const char *tag, const char *form, ...)
{
    va_list args;
    va_start(args, form);
    char *text = format_list(form, args);
    va_end(args);
    text_print(page, "<%s>", tag);
    html_text(page, text, strlen(text));
    text_print(page, "</%.*s>\n", (int)strcspn(tag, " "), tag);
    free(text);
}

enum { STEP, EPOCH, SEEN, TRAIN_LOSS, VAL_LOSS, RATE, NORM, SPEED, SECONDS, LOG_COLUMNS };
const char log_header[] = "step,epoch,tokens,train_loss,val_loss,lr,grad_norm,tokens_per_s,seconds";

typedef struct {
    double (*row)[LOG_COLUMNS];                    /* NaN: not measured */
    int rows, best;                                /* the row of the least val_loss, or -1 */
    int first[LOG_COLUMNS], last[LOG_COLUMNS];     /* rows where a column is measured, or -1 */
} Log;

/* Read log.csv, if it is there. A line that was cut short is left out. */
Log log_read(const char *folder)
{
    Log log = {.best = -1};
    char *rest = record_read(folder, "log.csv"), *line = strsep(&rest, "\r\n"), *cell, *end;
    memset(log.first, -1, sizeof log.first), memset(log.last, -1, sizeof log.last);
    if (line && *line && strcmp(line, log_header))
        die("%s/log.csv: expected the columns %s", folder, log_header);
    while ((line = strsep(&rest, "\r\n"))) {
        log.row = grow(log.row, log.rows, sizeof *log.row);
        double *row = log.row[log.rows];
        int count = 0;
        for (; count < LOG_COLUMNS && (cell = strsep(&line, ",")); count++) {
            row[count] = strtod(cell, &end);
            if (end == cell || !isfinite(row[count])) row[count] = NAN;
        }
        if (count < LOG_COLUMNS || isnan(row[STEP])) continue;
        if (isnan(row[TRAIN_LOSS])) row[RATE] = row[NORM] = NAN;         /* before the first step */
        for (int c = 0; c < LOG_COLUMNS; c++) {
            if (isnan(row[c])) continue;
            if (log.first[c] < 0) log.first[c] = log.rows;
            log.last[c] = log.rows;
        }
        if (log.best < 0 ? !isnan(row[VAL_LOSS]) : row[VAL_LOSS] < log.row[log.best][VAL_LOSS])
            log.best = log.rows;
        log.rows++;
    }
    return log;
}

/* ---- charts: x and y run from 0 to 100, as percentages of the drawing ---- */

/* A column of the log, as the means of at most `parts` runs of neighbouring rows. */
enum { RAW = 1 << 24, MEANS = 60 };
typedef struct { const char *style; int column, parts; } Curve;

typedef struct {
    const Curve *curve;
    int count;                                     /* of curves */
    double x0, x1, y0, y1;                         /* the ranges shown */
} Chart;

double chart_x(const Chart *c, double x) { return 100 * (x - c->x0) / (c->x1 - c->x0); }
double chart_y(const Chart *c, double y)
{
    return 100 * (c->y1 - fmin(fmax(y, c->y0), c->y1)) / (c->y1 - c->y0);
}

/* Set the ranges so that all curves fit, but for the peaks of faint ones; 0 if there is nothing to
 * draw. A range is never so small that rounding would decide what is drawn. */
int chart_range(Chart *c, const Log *log)
{
    c->x0 = log->row[0][STEP], c->x1 = fmax(log->row[log->rows - 1][STEP], c->x0 + 1);
    c->y0 = INFINITY, c->y1 = -INFINITY;
    for (const Curve *k = c->curve; k < c->curve + c->count; k++)
        for (int i = 0; i < log->rows; i++) {
            c->y0 = fmin(c->y0, log->row[i][k->column]);      /* fmin and fmax leave out NaN */
            if (!strstr(k->style, "faint")) c->y1 = fmax(c->y1, log->row[i][k->column]);
        }
    double margin = fmax(0.06 * (c->y1 - c->y0), fmax(1e-5 * fabs(c->y1), 1e-9));
    c->y0 = c->y0 >= 0 && c->y0 < 4 * margin ? 0 : c->y0 - margin;
    c->y1 += margin;
    return isfinite(c->y1 - c->y0) && isfinite(c->x1 - c->x0) && c->x1 > c->x0;
}

/* The least 1, 2 or 5 times a power of ten that divides a range into at most TICKS parts. */
enum { TICKS = 6 };
double tick(double range)
{
    double power = pow(10, floor(log10(range / TICKS))), times = range / TICKS / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

/* The numbers at round values of x and y, which go beside the drawing, and lines for those of y. */
void chart_axes(Text *p, Text *drawing, const Chart *c)
{
    double dy = tick(c->y1 - c->y0), dx = tick(c->x1 - c->x0), y, x;
    double bottom = ceil(c->y0 / dy), left = ceil(c->x0 / dx);
    for (int i = 0; i <= TICKS && (y = (bottom + i) * dy) <= c->y1; i++) {
        text_print(drawing, "<path class='grid' d='M0 %.2fH100'/>", chart_y(c, y));
        text_print(p, "<span class='y' style='top:%.2f%%'>%.6g</span>", chart_y(c, y), y);
    }
    for (int i = 0; i <= TICKS && (x = (left + i) * dx) <= c->x1; i++)
        text_print(p, "<span class='x' style='left:%.2f%%'>%.10g</span>", chart_x(c, x), x);
    text_print(p, "<span class='unit'>step</span>\n");
}

/* Draw a curve: the mean of each part is joined to the next or, in the style of dots, a dot of its
 * own, since a line would show what nobody has measured. */
void chart_curve(Text *drawing, const Chart *c, const Curve *k, const Log *log)
{
    int length = (log->rows + k->parts - 1) / k->parts, drawn = 0;
    int dots = strstr(k->style, "dots") != NULL;
    text_print(drawing, "<path class='%s' d='", k->style);
    for (int i = 0; i < log->rows; i += length) {
        double x = 0, y = 0;
        int count = 0;
        for (int j = i; j < min_int(log->rows, i + length); j++) {
            if (isnan(log->row[j][k->column])) continue;
            x += log->row[j][STEP], y += log->row[j][k->column], count++;
        }
        if (count) text_print(drawing, "%s%.2f %.2f%s", drawn++ && !dots ? "L" : "M",
                              chart_x(c, x / count), chart_y(c, y / count), dots ? "h.01" : "");
    }
    text_print(drawing, "'/>\n");
}

/* Draw curves, and mark a row of the log, unless it is -1, as the best. `words` describe the chart
 * to those who cannot see it; in `style` "small" it is less high. */
void chart_draw(Text *p, const Log *log, const char *style, const char *words, int mark,
                const Curve *curve, int count)
{
    Chart c = {curve, count, 0, 0, 0, 0};
    Text drawing = {0};
    if (!chart_range(&c, log)) return;
    text_print(p, "<div class='chart %s' role='img' aria-label='%s'>\n", style, words);
    chart_axes(p, &drawing, &c);
    for (int k = 0; k < count; k++) chart_curve(&drawing, &c, &curve[k], log);
    if (mark >= 0) {
        double loss = log->row[mark][VAL_LOSS], step = log->row[mark][STEP], x = chart_x(&c, step);
        text_print(&drawing, "<path class='red dash' d='M%.2f 0V100'/>\n"
                   "<path class='best red' d='M%.2f %.2fh.01'/>\n", x, x, chart_y(&c, loss));
        text_print(p, "<span class='mark red' style='%s:%.2f%%'>best %.3f, step %.0f</span>",
                   x > 55 ? "right" : "left", x > 55 ? 100 - x : x, loss, step);
    }
    text_print(p, "<svg viewBox='0 0 100 100' preserveAspectRatio='none' aria-hidden='true'>\n"
               "%s</svg></div>\n", drawing.bytes);
}

void page_curves(Text *p, const Log *log)
{
    static const Curve loss[] = {{"blue faint", TRAIN_LOSS, RAW}, {"blue", TRAIN_LOSS, MEANS},
                                 {"red dots", VAL_LOSS, RAW}};
    static const Curve rate = {"blue", RATE, RAW};
    static const Curve norm[] = {{"blue faint", NORM, RAW}, {"blue", NORM, MEANS}};
    const double *best = log->best < 0 ? NULL : log->row[log->best];
    char *words = !best ? "Loss by step."
        : format("Loss by step. Validation loss goes from %.3f to %.3f at step %.0f.",
                 log->row[log->first[VAL_LOSS]][VAL_LOSS], best[VAL_LOSS], best[STEP]);
    text_print(p, "<h2>Loss</h2>\n<p class='soft'>Nats per token. "
               "<span class='blue'>Training</span>: each step faint, and means of neighbouring "
               "steps. <span class='red'>Validation</span>: each measurement.</p>\n");
    chart_draw(p, log, "", words, log->best, loss, 3);
    text_print(p, "<div class='pair'>\n<figure><h3>Learning rate</h3>\n");
    chart_draw(p, log, "small", "Learning rate by step", -1, &rate, 1);
    text_print(p, "</figure>\n<figure><h3>Gradient norm</h3>\n");
    chart_draw(p, log, "small", "Gradient norm by step", -1, norm, 2);
    text_print(p, "</figure>\n</div>\n");
}

/* ---- records of one JSON object a line ---- */

/* A cell's number, perhaps followed by a percent sign or an interval; NaN if it is none. */
double cell_number(const char *cell)
{
    char *end;
    double x = strtod(cell, &end);
    int whole = !*end || !strcmp(end, "%") || !strncmp(end, " [", 2);
    return end > cell && isfinite(x) && whole ? x : NAN;
}

/* Add row r; in row 0 are the names of the columns. Numbers, and the name above them, stand at the
 * right; `heat`: each is as dark as its share of the row; most > 0: behind the first cell stands a
 * bar, of full length if the number after it is `most`. */
void page_row(Text *p, const Table *t, int r, int heat, double most)
{
    char **cell = t->cells + r * t->columns, tag[80];
    double sum = 1e-300, second = t->columns > 1 ? cell_number(cell[1]) : 0;
    text_print(p, "<tr>");
    for (int c = 1; c < t->columns; c++) sum += fmax(0, fabs(cell_number(cell[c])));
    for (int c = 0; c < t->columns; c++) {
        double x = cell_number(!r && t->rows > 1 ? cell[c + t->columns] : cell[c]);
        const char *form = !r ? c && !isnan(x) ? "th class='n' scope='col'" : "th scope='col'"
                         : !c ? "th scope='row'" : isnan(x) ? "td" : !heat ? "td class='n'"
                         : "td style='background:rgb(var(--blue)/%.2f)'";
        snprintf(tag, sizeof tag, form, 0.04 + 0.5 * fabs(x) / sum);
        html(p, tag, "%s", cell[c]);
        if (most > 0 && !c) text_print(p, "<td class='bar'><i style='width:%.1f%%'></i></td>",
                                       100 * fmax(r ? second : 0, 0) / most);
    }
    text_print(p, "</tr>\n");
}

/* In kind "bars" the greatest number behind a name has a full bar, in kind "shares" 100% has. */
void page_table(Text *p, const Table *t)
{
    const char *kind = t->kind ? t->kind : "";
    int heat = !strcmp(kind, "heat"), bars = !strcmp(kind, "bars") && t->columns > 1;
    double most = !strcmp(kind, "shares") ? 100 : 0;
    for (int r = 1; bars && r < t->rows; r++)
        most = fmax(most, cell_number(t->cells[r * t->columns + 1]));
    text_print(p, "<section>\n");
    if (t->title && *t->title) html(p, "h3", "%s", t->title);
    text_print(p, "<div class='scroll'><table%s>\n<thead>", heat ? " class='heat'" : "");
    for (int r = 0; r < t->rows; r++) {
        page_row(p, t, r, heat, most);
        if (r == 0) text_print(p, "</thead>\n<tbody>");
    }
    text_print(p, "</tbody></table></div>\n");
    if (t->note && *t->note) html(p, "p class='soft'", "%s", t->note);
    text_print(p, "</section>\n");
}

/* The table of a record, as table_record() writes it. What is missing in a row is empty. */
Table table_from(const Json *record)
{
    const Json *columns = json_get(record, "columns"), *rows = json_get(record, "rows");
    Table t = {.title = string_of(record, "title"), .kind = string_of(record, "kind"),
               .note = string_of(record, "note"), .columns = columns ? (int)columns->count : 0};
    const Json *row = columns, *first = rows ? rows->child : NULL;
    for (; row && t.columns; row = row == columns ? first : row->next) {
        const Json *cell = row->child;
        for (int c = 0; c < t.columns; c++, cell = cell ? cell->next : NULL)
            table_cell(&t, "%s", cell && cell->text ? cell->text : "");
    }
    return t;
}

void page_tables(Text *p, const char *folder, const char *name, const char *heading)
{
    const Json *record = records_read(folder, name, 0);
    if (!record) return;
    text_print(p, "<h2>%s</h2>\n<div class='tables'>\n", heading);
    for (; record; record = record->next) {
        Table t = table_from(record);
        page_table(p, &t);
    }
    text_print(p, "</div>\n");
}

/* The first record of a prompt with that value of "when" (NULL: any); NULL if there is none. */
const Json *sample_find(const Json *all, const char *prompt, const char *when)
{
    for (; all; all = all->next) {
        const char *p = string_of(all, "prompt"), *w = string_of(all, "when");
        if (p && !strcmp(p, prompt) && (!when || (w && !strcmp(w, when)))) break;
    }
    return all;
}

/* Each prompt with its answers before and after training, and the target. */
void page_samples(Text *p, const char *folder)
{
    static const char *const headings[] = {"Before", "After", "Target"};
    const Json *all = records_read(folder, "samples.jsonl", 0);
    if (all) text_print(p, "<h2>Samples</h2>\n");
    for (const Json *s = all; s; s = s->next) {
        const char *prompt = string_of(s, "prompt");
        if (!prompt || sample_find(all, prompt, NULL) != s) continue;    /* it is shown already */
        const char *text[] = {string_of(sample_find(all, prompt, "before"), "text"),
                              string_of(sample_find(all, prompt, "after"), "text"),
                              string_of(s, "target")};
        text_print(p, "<article>\n");
        html(p, "pre", "%s", prompt);
        text_print(p, "<div class='pair'>\n");
        for (int i = 0; i < 3; i++) {
            if (!text[i]) continue;
            text_print(p, "<div><h3>%s</h3>", headings[i]);
            html(p, "pre", "%s", text[i] + strspn(text[i], " \n"));
            text_print(p, "</div>\n");
        }
        text_print(p, "</div></article>\n");
    }
}

/* The settings as a table, and the command line. */
void page_settings(Text *p, const Setting *run)
{
    const char *command = setting(run, "command");
    Table t = {0};
    table_row(&t, "setting\tvalue");
    for (; run->name; run++)
        if (*run->value && run->value != command) table_row(&t, "%s\t%s", run->name, run->value);
    text_print(p, "<h2>The run</h2>\n");
    page_table(p, &t);
    if (!command) return;
    text_print(p, "<h2>How to repeat it</h2>\n");
    html(p, "p", "The same command gives the same numbers, on any number of threads.");
    html(p, "pre", "%s", command);
}

/* Loss before and after in a sentence, a warning of overfitting, and figures of the run. */
void page_headline(Text *p, const Log *log, const char *data, const char *folder)
{
    html(p, "p class='soft'", "%s", data ? data : folder);
    if (!log->rows) { html(p, "h1", "%s", folder); return; }
    int measured = log->best >= 0, loss = measured ? VAL_LOSS : TRAIN_LOSS;
    int first = max_int(log->first[loss], 0), last = max_int(log->last[loss], 0);
    const double *best = log->row[measured ? log->best : last], *end = log->row[log->rows - 1];
    double from = log->row[first][loss], to = best[loss];
    text_print(p, "<h1>%s loss %.3f \u2192 <b>%.3f</b></h1>\n<p class='lead'>",
               measured ? "Validation" : "Training", from, to);
    if (!measured) text_print(p, "After %.0f steps, without validation data.", end[STEP]);
    else if (log->best == first)
        text_print(p, "No later step is better than step %.0f.", best[STEP]);
    else text_print(p, "The best of %.0f steps is step %.0f, after %s.", end[STEP], best[STEP],
                    duration(best[SECONDS]));
    if (measured && log->row[last][loss] > 1.05 * to)
        html(p, "p class='warn'", "After that step, validation loss rose to %.3f while training "
             "continued: the model overfits. best.bin holds the weights of the best step.",
             log->row[last][loss]);
    Table t = {0};
    table_row(&t, "perplexity\tafter training\tepochs\ttokens\ttokens per second\ttime");
    table_row(&t, "%.2f\t%.2f\t%.3g\t%.0f\t%.0f\t%s", exp(from), exp(to), end[EPOCH], end[SEEN],
              log->last[SPEED] < 0 ? NAN : log->row[log->last[SPEED]][SPEED],
              duration(end[SECONDS]));
    page_table(p, &t);
}

/* Begin a page: its title, and the style of its own besides report_style. */
void page_begin(Text *page, const char *title, const char *style)
{
    text_print(page, "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
               "<meta name='viewport' content='width=device-width,initial-scale=1'>\n");
    html(page, "title", "%s", title);
    text_print(page, "<style>\n%s%s</style>\n", report_style, style);
}

int command_report(int words, char **word)
{
    (void)words;
    Text page = {0};
    char *folder = word[0];
    for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/'; n--) folder[n - 1] = 0;
    Setting *run = settings_parse(record_read(folder, "run.txt"));
    const char *data = setting(run, "data");
    char *about_data = format("%s_report.jsonl", data ? data : "");
    Log log = log_read(folder);
    page_begin(&page, folder, "");
    text_print(&page, "<main>\n");
    page_headline(&page, &log, data, folder);
    if (log.rows > 1) page_curves(&page, &log);
    page_samples(&page, folder);
    page_tables(&page, folder, "eval.jsonl", "Evaluation");
    page_tables(&page, folder, "compare.jsonl", "Prompting or fine-tuning");
    page_tables(&page, folder, "search.jsonl", "Search");
    page_tables(&page, folder, "bias.jsonl", "Bias");
    if (data) page_tables(&page, "", about_data, "Data");
    if (run->name) page_settings(&page, run);
    text_print(&page, "</main>\n</html>\n");
    text_write(format("%s/report.html", folder), page.bytes);
    printf("%s/report.html is written\n", folder);
    return 0;
}

/* ================================================================================================
 * 10. Explain
 *
 * One forward pass opened up: the numbers that lead from a text to its next token, each with its
 * formula and the function that computes it, as one page for a class to look at. train_gpt.c is not
 * changed for it: in training a model keeps its activations, and they are read here after
 * model_forward. What is not kept is computed again: attention's probabilities, row by row.
 * Rejected: hooks in the layers, which would then know of this page.
 *
 * The page is complete without scripts. With them, a click chooses another query or head; their
 * data are numbers alone. All text is in the HTML, escaped.
 */

typedef struct {
    Model *m;                            /* ready for training on one row of n tokens */
    const char *name;
    const Tokenizer *t;
    const int *tokens;                   /* (n), <|endoftext|> first */
    int n, answer, head;                 /* the token whose probability is told; the head shown */
    real *logits, *p;                    /* (V), of the token that comes next */
    real *without;                       /* (L, NH): p[answer] with that head off */
} Opened;

/* p_i = e^(x_i - max) / sum_j e^(x_j - max), for p(n) and x(n). */
void softmax_row(real *p, const real *x, int n)
{
    real max = -INFINITY;
    double sum = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) sum += p[i] = exp_real(x[i] - max);
    for (int i = 0; i < n; i++) p[i] /= (real)sum;
}

/* p(V) and logits(V) of the next token if x(C) were the residual stream after the last block: the
 * last layernorm, the head and softmax. */
void next_token(real *p, real *logits, const Model *m, const real *x)
{
    int C = m->c.C, V = m->c.V;
    real stats[2], *y = allocate_reals(C);
    layernorm_forward(y, stats, x, m->w.lnf_w, m->w.lnf_b, 1, C);
    matmul(assign(logits, V), view(y, C), transposed(m->w.wte, C), 1, V, C);
    softmax_row(p, logits, V);
    free_reals(y);
}

/* The residual stream (C) of the last token after l blocks; after 0 it is the embedding. */
const real *stream_after(const Model *m, int l)
{
    const real *res = l < m->c.L ? activations_layer(m, l).res : m->a.final_res;
    return res + (size_t)(m->T - 1) * m->c.C;
}

/* Of query t in head i = l NH + h: scores s(t+1), s_j = q.k_j / sqrt(HS); p(t+1) = softmax(s). */
void attention_row(real *s, real *p, const Model *m, int i, int t)
{
    int C = m->c.C, HS = C / m->c.NH;
    const real *q = activations_layer(m, i / m->c.NH).qkv + i % m->c.NH * HS, *k = q + C;
    for (int j = 0; j <= t; j++)
        s[j] = dot(q + (size_t)t * 3 * C, k + (size_t)j * 3 * C, HS) / (real)sqrt(HS);
    softmax_row(p, s, t + 1);
}

/* Set o->without: for each head a forward pass with the HS columns of attproj_w(C, C) that read its
 * output set to 0. Weights and activations are as before afterwards. */
void heads_switch_off(Opened *o)
{
    Model *m = o->m;
    int C = m->c.C, NH = m->c.NH, HS = C / NH;
    size_t size = (size_t)C * C;
    real *kept = allocate_reals(size), *p = allocate_reals(2 * m->c.V);
    o->without = allocate_reals((size_t)m->c.L * NH);
    for (int i = 0; i < m->c.L * NH; i++) {
        real *w = params_layer(m->tensors, m->w, i / NH).attproj_w, *columns = w + i % NH * HS;
        memcpy(kept, w, size * sizeof *w);
        for (int c = 0; c < C; c++) memset(columns + (size_t)c * C, 0, HS * sizeof *w);
        model_forward(m, o->tokens, NULL, 1, 0, o->n, (Dropout){0});
        next_token(p, p + m->c.V, m, stream_after(m, m->c.L));
        o->without[i] = p[o->answer];
        memcpy(w, kept, size * sizeof *w);
    }
    model_forward(m, o->tokens, NULL, 1, 0, o->n, (Dropout){0});
    free_reals(kept), free_reals(p);
}

/* Run the model: then m->a has the activations, and m->loss[t] is the loss of token t + 1. */
void opened_forward(Opened *o)
{
    Model *m = o->m;
    Batch b = batch_new(1, o->n);
    for (int t = 0; t < o->n; t++) {
        b.tokens[t] = o->tokens[t], b.loss_weight[t] = t + 1 < o->n;
        b.targets[t] = o->tokens[min_int(t + 1, o->n - 1)];
    }
    model_prepare(m, TRAINING, 1, o->n, 0);
    o->p = allocate_reals(m->c.V), o->logits = allocate_reals(m->c.V);
    model_loss(m, &b, (Dropout){0}, 0, 0);
    next_token(o->p, o->logits, m, stream_after(m, m->c.L));
    batch_free(&b);
}

/* The places of the `most` largest of x(n) into best, the largest first; returns how many. */
int largest_few(int *best, int most, const real *x, int n)
{
    int count = min_int(most, n);
    real *left = memcpy(allocate(n, sizeof *left), x, n * sizeof *left);
    for (int i = 0; i < count; i++) {
        best[i] = 0;
        for (int j = 1; j < n; j++) best[i] = left[j] > left[best[i]] ? j : best[i];
        left[best[i]] = -INFINITY;
    }
    free(left);
    return count;
}

/* The length of x(n) - y(n); y NULL: of x. */
double length_of(const real *x, const real *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += pow((double)x[i] - (y ? (double)y[i] : 0), 2);
    return sqrt(sum);
}

/* ---- the page ---- */

const char explain_style[] =
    "body{max-width:76rem}h1,code{overflow-wrap:anywhere}figure{min-width:0}button{font:inherit;"
    "color:inherit;border:0;padding:0;cursor:pointer;text-align:left;background:none}"
    "code,.chip b,.key{font-family:ui-monospace,Menlo,Consolas,monospace}code{font-size:.95em}"
    ".formula{border-left:3px solid var(--rule);padding-left:.9rem}.formula span{margin-left:1rem}"
    ".chips{display:flex;flex-wrap:wrap;gap:.35rem;margin:1rem 0 .6rem}.chip,.key{"
    "padding:.2rem .55rem;border-radius:4px;line-height:1.35;border:1px solid var(--rule)}"
    ".chip{background:rgb(var(--red)/calc(var(--a)*.6))}.chip small{display:block}.chip b{"
    "color:var(--ink);font-size:1.15rem}.key{background:rgb(var(--blue)/calc(var(--a)*.6))}"
    "[aria-pressed=true]{outline:2px solid rgb(var(--red));outline-offset:1px}"
    ".strip{width:100%;height:4.5rem;background:var(--raised)}.strip path,.map path{"
    "vector-effect:none}.strip path{fill:rgb(var(--blue))}.look{display:flex;flex-wrap:wrap;"
    "gap:1.5rem 3rem}.look>div{flex:1 1 20rem;min-width:0}.maps{display:grid;gap:.45rem;"
    "grid-template-columns:repeat(var(--heads),minmax(3.2rem,8rem));overflow-x:auto;padding:3px;"
    "align-content:start;color:var(--soft);font-size:.72rem}.map span{display:block;"
    "position:relative;background:var(--raised);aspect-ratio:1}.map svg{position:absolute;"
    "width:100%;height:100%}.map path{stroke:rgb(var(--blue));stroke-width:1}"
    ".map span::after{content:'';position:absolute;width:100%;top:calc(100%*var(--t)/var(--n));"
    "height:calc(100%/var(--n));outline:1px solid rgb(var(--red)/.7)}figure td,figure th{"
    "white-space:nowrap}tbody th{min-width:0}.heat button{width:100%;text-align:center}"
    ".heat small{font-size:.72rem}@media(max-width:40rem){th,td{padding-right:.5rem;"
    "font-size:.85rem}.bar{width:4rem;min-width:2.2rem}.heat td,.heat th+th{padding:.4rem .2rem}}";

/* A click chooses the query t or the head h; what depends on them is written anew, as by
 * page_attention. The units are those of page_data. */
const char explain_script[] =
    "const D=JSON.parse(document.getElementById('data').textContent),"
    "Q=(s,e=document)=>[...e.querySelectorAll(s)];let t=D.n-1,h=D.h;\n"
    "function draw(){Q('main')[0].style.setProperty('--t',t);\n"
    "for(const[n,x]of[['t',t],['h',h]])Q(`[data-${n}]`).forEach(e=>"
    "e.setAttribute('aria-pressed',e.dataset[n]==x));\n"
    "Q('.seen').forEach((f,k)=>{const m=D.m.slice((k*D.all+h)*D.n),q=m[t],"
    "key=Q('.key',f).map(e=>e.textContent),p=j=>q.p[j]/1e5,"
    "set=(s,x)=>f.querySelector(s).textContent=x,"
    "top=[...q.p.keys()].sort((x,y)=>p(y)-p(x)).slice(0,10);\n"
    "Q('.key',f).forEach((e,j)=>e.style.setProperty('--a',j>t?0:Math.sqrt(p(j))));\n"
    "set('h3',`Block ${1+Math.floor(h/D.heads)}, head ${1+h%D.heads}, query ${t} ${key[t]}`);"
    "set('.soft',`Keys that are not shown: ${t+1-top.length}; |out| = ${(q.o/1e3).toFixed(2)}`);"
    "set('tbody','');\n"
    "for(const j of top){const r=f.querySelector('tbody').insertRow();"
    "r.innerHTML=`<th></th><td class=bar><i style='width:${100*p(j)}%'></i>"
    "<td class=n>${(100*p(j)).toFixed(1)}%<td class=n>${(q.s[j]/100).toFixed(2)}"
    "<td class=n>${(m[j].v/1e3).toFixed(2)}<td class=n>${(p(j)*m[j].v/1e3).toFixed(2)}`;"
    "r.cells[0].textContent=`${j} ${key[j]}`}})}\n"
    "onclick=e=>{const d=(e.target.closest('[data-t],[data-h]')||{}).dataset;if(!d)return;"
    "t=+(d.t??t);h=+(d.h??h);draw()};draw()\n";

/* The text of a token, in which spaces and line ends are made visible. In new memory. */
char *token_text(const Opened *o, int id)
{
    int size;
    const char *bytes = tokenizer_bytes(o->t, id, &size);
    Text text = {0};
    text_add(&text, "", 0);
    for (int i = 0; i < size; i++)
        if (bytes[i] == ' ') text_print(&text, "\u2423");
        else if (bytes[i] == '\n') text_print(&text, "\u21B5");
        else text_add(&text, bytes + i, 1);
    return text.bytes;
}

/* ---- the steps of the page, as explain_steps describes them ---- */

void page_chips(Text *p, const Opened *o)
{
    double guess = log(o->m->c.V), sum = 0, loss = 0;
    text_print(p, "<div class='chips'>\n");
    for (int t = 0; t < o->n; sum += loss, t++) {
        loss = t ? o->m->loss[t - 1] : 0;
        text_print(p, "<button class='chip' data-t='%d' style='--a:%.3f'>", t,
                   fmin(1, loss / guess));
        html(p, "b", "%s", token_text(o, o->tokens[t]));
        text_print(p, "<small class='soft'>%d</small>", o->tokens[t]);
        text_print(p, t ? "<small>%.2f</small></button>\n" : "<small>\u2013</small></button>\n",
                   loss);
    }
    text_print(p, "</div><p class='soft'>Mean loss %.3f, perplexity %.2f. A guess among all %d "
               "tokens has loss %.2f.</p>\n", sum / (o->n - 1), exp(sum / (o->n - 1)), o->m->c.V,
               guess);
}

void page_embedding(Text *p, const Opened *o)
{
    int C = o->m->c.C, t = o->n - 1, id = o->tokens[t];
    const struct { char *name; const real *x; } rows[] = {
        {format("wte[%d]", id), o->m->w.wte + (size_t)id * C},
        {format("wpe[%d]", t), o->m->w.wpe + (size_t)t * C},
        {format("x"), stream_after(o->m, 0)}};
    double most = 1e-9;
    for (int i = 0; i < 3 * C; i++) most = fmax(most, fabs((double)rows[i / C].x[i % C]));
    for (int i = 0; i < 3; i++) {
        const real *x = rows[i].x;
        text_print(p, "<p class='soft'><code>%s</code> = ", rows[i].name);
        for (int c = 0; c < min_int(C, 4); c++) text_print(p, "%.3f, ", (double)x[c]);
        text_print(p, "...; length %.2f</p>\n<svg class='strip' viewBox='0 -50 %d 100' "
                   "preserveAspectRatio='none' aria-hidden='true'><path d='",
                   length_of(x, NULL, C), C);
        for (int c = 0; c < C; c++) text_print(p, "M%d 0v%.0fh.8V0", c, -48 * x[c] / most);
        text_print(p, "'/></svg>\n");
    }
}

/* The map of head i: row t has the probabilities of query t. A shade is a path of lines. */
void page_map(Text *p, const Opened *o, int i)
{
    int n = o->n, NH = o->m->c.NH, block = i / NH + 1, head = i % NH + 1;
    real *s = allocate_reals(2 * n);
    Text shade[11] = {{0}};
    for (int t = 0; t < n; t++) {
        attention_row(s, s + n, o->m, i, t);
        for (int j = 0; j <= t; j++)
            text_print(&shade[(int)(10 * sqrt(s[n + j]) + 0.5)], "M%d %dh1", j, t);
    }
    text_print(p, "<button class='map' data-h='%d' aria-label='block %d, head %d'>%d\u00b7%d<span>"
               "<svg viewBox='0 -.5 %d %d' shape-rendering='crispEdges'>", i, block, head, block,
               head, n, n);
    for (int k = 1; k <= 10; k++)
        if (shade[k].size) text_print(p, "<path opacity='%.1f' d='%s'/>", k / 10.0, shade[k].bytes);
    text_print(p, "</svg></span></button>\n");
}

/* The maps; and what the last query sees in the head that is shown: all tokens, as dark as the root
 * of their probability, and the ten most likely as a table. */
void page_attention(Text *p, const Opened *o)
{
    enum { FEW = 10 };
    int C = o->m->c.C, NH = o->m->c.NH, HS = C / NH, n = o->n, h = o->head % NH, best[FEW];
    Activations a = activations_layer(o->m, o->head / NH);
    Table t = {.kind = "shares"};
    real *s = allocate_reals(2 * n), *prob = s + n;
    text_print(p, "<div class='look'><div class='maps' style='--heads:%d'>\n", NH);
    for (int i = 0; i < o->m->c.L * NH; i++) page_map(p, o, i);
    text_print(p, "</div>\n<div class='seen'><div class='chips'>\n");
    attention_row(s, prob, o->m, o->head, n - 1);
    for (int j = 0; j < n; j++) {
        char tag[80];
        snprintf(tag, sizeof tag, "button class='key' data-t='%d' style='--a:%.3f'", j,
                 sqrt(prob[j]));
        html(p, tag, "%s", token_text(o, o->tokens[j]));
    }
    text_print(p, "</div>\n");
    int rows = largest_few(best, FEW, prob, n);
    t.title = format("Block %d, head %d, query %d %s", o->head / NH + 1, h + 1, n - 1,
                     token_text(o, o->tokens[n - 1]));
    t.note = format("Keys that are not shown: %d; |out| = %.2f", n - rows,
                    length_of(a.att + (size_t)(n - 1) * C + h * HS, NULL, HS));
    table_row(&t, "key j\tp_j\tq\u00b7k_j/\u221aHS\t|v_j|\tp_j |v_j|");
    for (int r = 0; r < rows; r++) {
        int j = best[r];
        double v = length_of(a.qkv + (size_t)j * 3 * C + 2 * C + h * HS, NULL, HS);
        table_row(&t, "%d %s\t%.1f%%\t%.2f\t%.2f\t%.2f", j, token_text(o, o->tokens[j]),
                  100.0 * prob[j], (double)s[j], v, prob[j] * v);
    }
    page_table(p, &t);
    text_print(p, "</div>\n</div>\n");
}

void page_norms(Text *p, const Opened *o)
{
    int C = o->m->c.C;
    Table t = {.title = "", .kind = "heat"};
    table_row(&t, "block\t|res|\tattention adds\t|res2|\tMLP adds\t|res'|");
    for (int l = 0; l < o->m->c.L; l++) {
        const real *x = stream_after(o->m, l), *y = stream_after(o->m, l + 1);
        const real *mid = activations_layer(o->m, l).res2 + (size_t)(o->n - 1) * C;
        table_row(&t, "%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f", l + 1, length_of(x, NULL, C),
                  length_of(mid, x, C), length_of(mid, NULL, C), length_of(y, mid, C),
                  length_of(y, NULL, C));
    }
    page_table(p, &t);
}

void page_lens(Text *p, const Opened *o)
{
    int V = o->m->c.V, top;
    real *prob = allocate_reals(2 * V);
    Table t = {.title = "", .kind = "shares"};
    table_row(&t, "after\tp(%s)\ttop token\tits p", token_text(o, o->answer));
    for (int l = 0; l <= o->m->c.L; l++) {
        next_token(prob, prob + V, o->m, stream_after(o->m, l));
        largest_few(&top, 1, prob, V);
        table_row(&t, "%s\t%.1f%%\t%s\t%.1f%%", l ? format("block %d", l) : "embedding",
                  100.0 * prob[o->answer], token_text(o, top), 100.0 * prob[top]);
    }
    page_table(p, &t);
}

void page_top(Text *p, const Opened *o)
{
    enum { TOP = 10 };
    int best[TOP], rows = largest_few(best, TOP, o->p, o->m->c.V);
    Table t = {.title = "", .kind = "shares"};
    table_row(&t, "token\tp\tlogit");
    for (int r = 0; r < rows; r++)
        table_row(&t, "%s\t%.1f%%\t%.2f", token_text(o, best[r]), 100.0 * o->p[best[r]],
                  (double)o->logits[best[r]]);
    page_table(p, &t);
}

void page_heads(Text *p, const Opened *o)
{
    int NH = o->m->c.NH;
    double all = o->p[o->answer];
    html(p, "p", "With all heads p(%s) is %.1f%%. Without one of them it is:",
         token_text(o, o->answer), 100 * all);
    text_print(p, "<div class='scroll'><table class='heat'><tbody>");
    for (int i = 0; i < o->m->c.L * NH; i++) {
        double now = o->without[i], change = (now - all) / fmax(fmax(now, all), 1e-30);
        if (i % NH == 0) text_print(p, "<tr><th>block %d</th>", i / NH + 1);
        text_print(p, "<td style='background:rgb(var(--%s)/%.3f)'><button data-h='%d'><small "
                   "class='soft'>head %d</small><br>%.1f%%</button></td>",
                   change < 0 ? "red" : "blue", 0.75 * fabs(change), i, i % NH + 1, 100 * now);
        if ((i + 1) % NH == 0) text_print(p, "</tr>\n");
    }
    text_print(p, "</tbody></table></div>\n");
}

/* The numbers of explain_script. D.m[(k all + h) n + t] is about token t in head h of model k: as a
 * key, the length v of its value, in 1/1,000; as a query, the length o of the output, in the same
 * unit, and the lists s of scores, in 1/100, and p of probabilities, in 1/100,000. */
void page_data(Text *p, const Opened *o, int count)
{
    int n = o->n, C = o->m->c.C, NH = o->m->c.NH, HS = C / NH, all = o->m->c.L * NH;
    real *s = allocate_reals(2 * n);
    text_print(p, "<script type='application/json' id='data'>{\"n\":%d,\"heads\":%d,\"all\":%d,"
               "\"h\":%d,\"m\":", n, NH, all, o->head);
    for (int row = 0; row < count * all * n; row++) {
        int t = row % n, i = row / n % all, h = i % NH;
        const Model *m = o[row / n / all].m;
        Activations a = activations_layer(m, i / NH);
        const real *out = a.att + (size_t)t * C + h * HS;
        const real *v = a.qkv + (size_t)t * 3 * C + 2 * C + h * HS;
        attention_row(s, s + n, m, i, t);
        text_print(p, "%c{\"v\":%.0f,\"o\":%.0f", row ? ',' : '[', 1e3 * length_of(v, NULL, HS),
                   1e3 * length_of(out, NULL, HS));
        for (int j = 0; j <= t; j++) text_print(p, "%s%.0f", j ? "," : ",\"s\":[", 100.0 * s[j]);
        for (int j = 0; j <= t; j++) text_print(p, "%s%.0f", j ? "," : "],\"p\":[", 1e5 * s[n + j]);
        text_print(p, "]}");
    }
    text_print(p, "]}</script>\n<script>\n%s</script>\n", explain_script);
}

static const struct {
    const char *heading, *about, *formula, *function;
    void (*draw)(Text *, const Opened *);
} explain_steps[] = {
    {"Tokens and their losses", "The text as the model reads it: tokens, each with its id and its "
     "loss in nats; \u2423 is a space. The redder a token, the less the model expected it. A click "
     "makes a token the query of step 3.",
     "loss = -log p(token | all tokens before it)", "softmax_loss()", page_chips},
    {"The embedding of the last token", "A row of the table of tokens plus a row of the table of "
     "positions is the vector that enters the first block. Each bar is one of its channels.",
     "x = wte[token] + wpe[position]", "embedding_forward()", page_embedding},
    {"Attention", "A map for each head, named block\u00b7head: a row is a query, a column a key; "
     "the shade is the root of the probability, so that small ones can be seen. A click on a map "
     "chooses the head, a click on a token the query. Without a click: the last token, in the head "
     "without which the answer loses most (step 7).",
     "s_j = q\u00b7k_j / \u221aHS,  p = softmax(s),  out = \u2211_j p_j v_j",
     "attention_forward()", page_attention},
    {"The residual stream of the last token", "Each block adds to the stream twice. Lengths of "
     "vectors: the stream before the block, what attention adds, the sum, what the MLP adds, and "
     "the stream after the block.",
     "res2 = res + attproj(attention(qkv(ln1(res)))),  res' = res2 + fcproj(gelu(fc(ln2(res2))))",
     "block_forward()", page_norms},
    {"The logit lens", "What the model would answer if it ended after a block: the last layernorm "
     "and the head, applied to the residual stream of the last token. The last row is the model's "
     "own output.", "p = softmax(lnf(res) wte\u1d40)", "next_token()", page_lens},
    {"The next token", "The ten most likely tokens. A logit is the product of the last "
     "layernorm's output with the token's row of wte; softmax turns all logits into probabilities.",
     "logit_v = lnf(res)\u00b7wte[v],  p_v = e^logit_v / \u2211_u e^logit_u", "next_token()",
     page_top},
    {"Switch a head off", "The probability of the answer when the output of one head is 0 and all "
     "else stays: a forward pass for each head. Red: the answer loses without this head; blue: it "
     "gains.", "attproj_w[:, h\u00b7HS to (h+1)\u00b7HS - 1] = 0", "heads_switch_off()",
     page_heads}};

/* Write the page: each step of all `count` models, side by side. */
void page_explain(Text *p, const char *text, const Opened *o, int count)
{
    Config c = o->m->c;
    int size;
    text_print(p, "<main style='--n:%d;--t:%d'>\n<p class='soft'>What comes next?</p>\n<h1>", o->n,
               o->n - 1);
    html_text(p, text, strlen(text));
    const char *answer = tokenizer_bytes(o->t, o->answer, &size);
    html(p, "b", "%.*s", size, answer);
    text_print(p, "</h1>\n");
    for (int k = 0; k < count; k++)
        html(p, "p class='lead'", "%.1f%% in %s", 100.0 * o[k].p[o->answer], o[k].name);
    html(p, "p class='soft'", "%s%d blocks of %d heads, %d channels, %d tokens in the vocabulary. "
         "Blocks and heads are counted from 1, positions from 0.", count == 1 ? ""
         : "The answer is the most likely token of the last model. ", c.L, c.NH, c.C, c.V);
    for (size_t i = 0; i < sizeof explain_steps / sizeof *explain_steps; i++) {
        text_print(p, "<h2 id='step%zu'>%zu. %s</h2>\n", i + 1, i + 1, explain_steps[i].heading);
        html(p, "p", "%s", explain_steps[i].about);
        text_print(p, "<p class='formula'>");
        html(p, "code", "%s", explain_steps[i].formula);
        text_print(p, "<span class='soft'>%s</span></p>\n<div%s>\n", explain_steps[i].function,
                   count > 1 ? " class='pair'" : "");
        for (int k = 0; k < count; k++) {
            text_print(p, "<figure>\n");
            if (count > 1) html(p, "h3", "%s", o[k].name);
            explain_steps[i].draw(p, &o[k]);
            text_print(p, "</figure>\n");
        }
        text_print(p, "</div>\n");
    }
    page_data(p, o, count);
    text_print(p, "</main>\n</html>\n");
}

/* ---- the numbers of one step in the terminal, for those who follow with a pencil ---- */

/* What a kind of layer reads and writes. Of a linear layer's weight only the row w[0] is shown,
 * which makes y_0. */
enum { VECTORS = 5, NUMBERS = 6 };
enum { EMBED, NORM_STEP, PRODUCT, SCORES, GELU, SUM, OUTPUT };
const char *const vector_names[][VECTORS] = {
    {"wte[token]", "wpe[position]", "embedding_forward(): x = wte[token] + wpe[position]"},
    {"x", "mean, r = 1/sqrt(variance + 1e-5)", "w", "b",
     "layernorm_forward(): y = (x - mean) r w + b"},
    {"x", "w[0]", "b", "linear_forward(): y_o = sum_c x_c w_oc + b_o"},
    {"q of head 1", "s_j = q.k_j / sqrt(HS)", "p = softmax(s)",
     "attention_forward(): out = sum_j p_j v_j"},
    {"x, u = 0.79788 (x + 0.044715 x^3)", "gelu_forward(): y = x/2 (1 + tanh u)"},
    {"a", "b", "residual_forward(): y = a + b"},
    {"x", "matmul(): the largest of logits = x wte^T", "p = softmax(logits), of these"}};

/* Print the first numbers of each vector of a step of block l, for the last token; returns 0 if
 * there is no such step. What the model has not kept is computed again. */
int step_print(const Opened *o, const char *step, int l)
{
    const Model *m = o->m;
    int C = m->c.C, HS = C / m->c.NH, n = o->n, t = n - 1, i = 0, best[NUMBERS];
    int most = largest_few(best, NUMBERS, o->p, m->c.V);
    Params w = params_layer(m->tensors, m->w, l);
    Activations a = activations_layer(m, l);
    const real *in = stream_after(m, l), *mid = a.res2 + t * C, *end = stream_after(m, m->c.L);
    const real *qkv = a.qkv + t * 3 * C, *att = a.att + t * C, *fc = a.fc + t * 4 * C;
    real *ln1 = allocate_reals(C), *attproj = allocate_reals(C), *ln2 = allocate_reals(C);
    real *gelu = allocate_reals(4 * C), *mlp = allocate_reals(C), *lnf = allocate_reals(C);
    real *s = allocate_reals(n), *p = allocate_reals(n), top[NUMBERS], top_p[NUMBERS];
    real s1[2], s2[2], sf[2];
    layernorm_forward(ln1, s1, in, w.ln1_w, w.ln1_b, 1, C);
    attention_row(s, p, m, l * m->c.NH, t);
    linear_forward(attproj, C, att, view(w.attproj_w, C), w.attproj_b, 1, C, C);
    layernorm_forward(ln2, s2, mid, w.ln2_w, w.ln2_b, 1, C);
    gelu_forward(gelu, fc, 4 * C);
    linear_forward(mlp, C, gelu, view(w.fcproj_w, 4 * C), w.fcproj_b, 1, 4 * C, C);
    layernorm_forward(lnf, sf, end, w.lnf_w, w.lnf_b, 1, C);
    for (int k = 0; k < most; k++) top[k] = o->logits[best[k]], top_p[k] = o->p[best[k]];
    const struct { const char *step; int kind; const real *x[VECTORS]; int n[VECTORS]; } steps[] = {
        {"embedding", EMBED, {w.wte + (size_t)o->tokens[t] * C, w.wpe + t * C, stream_after(m, 0)},
         {C, C, C}},
        {"ln1", NORM_STEP, {in, s1, w.ln1_w, w.ln1_b, ln1}, {C, 2, C, C, C}},
        {"qkv", PRODUCT, {ln1, w.qkv_w, w.qkv_b, qkv}, {C, C, 3 * C, 3 * C}},
        {"attention", SCORES, {qkv, s, p, att}, {HS, n, n, HS}},
        {"attproj", PRODUCT, {att, w.attproj_w, w.attproj_b, attproj}, {C, C, C, C}},
        {"res2", SUM, {in, attproj, mid}, {C, C, C}},
        {"ln2", NORM_STEP, {mid, s2, w.ln2_w, w.ln2_b, ln2}, {C, 2, C, C, C}},
        {"fc", PRODUCT, {ln2, w.fc_w, w.fc_b, fc}, {C, C, 4 * C, 4 * C}},
        {"gelu", GELU, {fc, gelu}, {4 * C, 4 * C}},
        {"fcproj", PRODUCT, {gelu, w.fcproj_w, w.fcproj_b, mlp}, {4 * C, 4 * C, C, C}},
        {"res", SUM, {mid, mlp, stream_after(m, l + 1)}, {C, C, C}},
        {"lnf", NORM_STEP, {end, sf, w.lnf_w, w.lnf_b, lnf}, {C, 2, C, C, C}},
        {"head", OUTPUT, {lnf, top, top_p}, {C, most, most}}, {0}};
    while (steps[i].step && strcmp(steps[i].step, step)) i++;
    for (int k = 0; k < VECTORS && steps[i].n[k]; k++) {
        printf("  %-52s", vector_names[steps[i].kind][k]);
        for (int c = 0; c < min_int(NUMBERS, steps[i].n[k]); c++)
            printf(" %9.4f", (double)steps[i].x[k][c]);
        printf(steps[i].n[k] > NUMBERS ? " ... %d\n" : "\n", steps[i].n[k]);
    }
    return steps[i].step != NULL;
}

/* ---- the command ---- */

/* Load --model and --tuned, or --model without and with --adapter, and run each on the text.
 * Returns the number of models. */
int opened_load(Opened o[2], const char *text)
{
    int n, fallback = !opt.model;
    if (fallback) opt.model = "data/mini.bin";
    if (fallback && !strcmp(opt.tokenizer, "data/gpt2_tokenizer.bin"))
        opt.tokenizer = "data/mini_tokenizer.bin";
    if (fallback) printf("without --model: %s and %s\n", opt.model, opt.tokenizer);
    if (opt.adapter && !opt.tuned) opt.tuned = opt.model;
    Evaluation e = models_load();
    const int *tokens = prompt_tokens(e.t, text, strlen(text), &n);
    if (n > e.T)
        die("the text has %d tokens; the model's context is %d, of which <|endoftext|> takes one: "
            "give a shorter text", n - 1, e.T);
    for (int k = 0; k < e.count; k++) {
        o[k] = (Opened){.m = e.model[k], .name = e.name[k], .t = e.t, .tokens = tokens, .n = n};
        if (memcmp(&o[k].m->c, &o[0].m->c, sizeof(Config)))
            die("%s and %s have different shapes: expected one model before and after tuning",
                o[0].name, o[k].name);
        opened_forward(&o[k]);
    }
    return e.count;
}

/* Choose the answer, the most likely token of the last model, and the head to show, without which
 * that answer is least likely there. */
void opened_choose(Opened *o, int count)
{
    Opened *last = &o[count - 1];
    largest_few(&last->answer, 1, last->p, last->m->c.V);
    heads_switch_off(last);
    for (int i = 1; i < last->m->c.L * last->m->c.NH; i++)
        if (last->without[i] < last->without[last->head]) last->head = i;
    if (count == 1) return;
    o->answer = last->answer, o->head = last->head;
    heads_switch_off(o);
}

int command_explain(int words, char **word)
{
    (void)words;
    Opened o[2];
    Text page = {0};
    char step[16], more;
    int block = 1;
    if (!*word[0]) die_usage("explain: expected one text in quotes, found an empty one");
    int count = opened_load(o, word[0]), L = o->m->c.L, file = ends_with(opt.out, ".html");
    if (opt.layer) {
        int fields = sscanf(opt.layer, "%15[a-z0-9].%d%c", step, &block, &more);
        if (fields < 1 || fields > 2 || block < 1 || block > L ||
            !step_print(&o[count - 1], step, block - 1))
            die_usage("--layer: expected embedding, ln1, qkv, attention, attproj, res2, ln2, fc, "
                      "gelu, fcproj, res, lnf or head, and after it perhaps the block, .1 to .%d; "
                      "found '%s'", L, opt.layer);
        return 0;
    }
    opened_choose(o, count);
    page_begin(&page, word[0], explain_style);
    page_explain(&page, word[0], o, count);
    if (!file) make_folder(opt.out);
    const char *path = file ? opt.out : format("%s/explain.html", opt.out);
    printf("%s is written, %.0f KB\n", path, page.size / 1e3);
    text_write(path, page.bytes);
    return 0;
}

/* ================================================================================================
 * 11. Search
 *
 * An option with several values, A,B,C, makes a run for every combination: a grid search. Each run
 * has a folder, named for the chosen values. What is finished is not run again, so a search can be
 * stopped and continued. Since other options or the data may have changed in between, each folder
 * records all of them.
 */

typedef struct { double loss, step, seconds; char *settings, *folder, **line; } Trial;
typedef struct { Trial *trial; int trials, words; } Search;    /* words of the command line */

/* Add the trials with each combination of the lists in words[i] and behind it. `settings` are the
 * values chosen before, "name=value_..."; a trial's line has two words more in front, and four more
 * behind, that are still empty. */
void trials_add(Search *s, char **words, int i, char *settings)
{
    while (i < s->words && !list_in(words, i)) i++;
    if (i == s->words) {
        if (s->trials == 10000) die_usage("a search is of at most 10000 runs");
        Trial t = {.settings = settings, .line = allocate(s->words + 6, sizeof *t.line)};
        memcpy(t.line + 2, words, s->words * sizeof *words);
        s->trial = grow(s->trial, s->trials, sizeof t);
        s->trial[s->trials++] = t;
        return;
    }
    char *word = words[i], *list = list_in(words, i), *values = format("%s", list), *value;
    const char *name = (list == word ? words[i - 1] : word) + 2;
    while ((value = strsep(&values, ","))) {
        words[i] = format("%.*s%s", (int)(list - word), word, value);
        trials_add(s, words, i + 1, format("%s%s%.*s=%s", settings, *settings ? "_" : "",
                                           (int)strcspn(name, "="), name, value));
    }
    words[i] = word;
}

/* All that decides a run's result, as it is in its state. */
char *trial_inputs(void)
{
    Tokens train = tokens_read(opt.data, "train", 65536), val = tokens_read(opt.data, "val", 65536);
    char *text = format("%s%s", files_text(&train, &val), settings_text('t', "-="));
    tokens_free(&train), tokens_free(&val);
    return text;
}

/* Read from run.txt what a trial found; returns whether it is finished. */
int trial_read(Trial *t)
{
    Setting *run = settings_parse(record_read(t->folder, "run.txt"));
    t->loss = setting_number(run, "best_loss", INFINITY);
    t->step = setting_number(run, "best_step", NAN);
    t->seconds = setting_number(run, "seconds", NAN);
    return setting_number(run, "finished", 0) != 0;
}

/* Make a trial, unless it is finished; a stopped run is continued. The file trial.txt says from
 * which inputs the files of a folder came. */
void trial_run(Trial *t, int count)
{
    options_parse(options, 't', "", count, t->line + 2);       /* into opt, for trial_inputs() */
    char *inputs = trial_inputs(), *recorded = record_read(t->folder, "trial.txt");
    int same = recorded && !strcmp(recorded, inputs);
    if (same && trial_read(t)) return;
    printf("\n=== %s\n", t->settings);
    if (recorded && !same) printf("run anew, because options, data or model have changed\n");
    make_folder(t->folder);
    if (!same) unlink(format("%s/run.txt", t->folder)), unlink(format("%s/state.bin", t->folder));
    text_write(format("%s/trial.txt", t->folder), inputs);
    t->line[0] = sibling("train_gpt"), t->line[1] = "train";
    t->line[count + 2] = "--out", t->line[count + 3] = t->folder;
    if (same) t->line[count + 4] = "--resume";
    int status = run_program(t->line);
    if (status) exit(status);
    trial_read(t);
}

/* All trials, a table sorted by validation loss, and the best model into --out itself. */
int command_search(int count, char **words)
{
    Search s = {.words = count};
    trials_add(&s, words, 0, "");
    Trial *t = s.trial;
    for (int k = 0; k < s.trials; k++)                         /* each must be a command line */
        if (options_parse(options, 't', "", count, t[k].line + 2))
            die_usage("search: unexpected '%s'; options begin with --", t[k].line[2]);
    if (s.trials == 1) die_usage("search: give an option several values, such as --lr 1e-4,3e-4");
    if (!opt.data) die_usage("--data is missing: NAME of NAME_train.bin, made by ./prepare");
    if (!tokens_exist(opt.data, "val"))
        die("%s_val.bin is not there: a search needs validation data to choose by", opt.data);
    const char *out = opt.out;
    make_folder(out), folder_lock(out);
    for (int k = 0; k < s.trials; k++) {
        t[k].folder = format("%s/%s", out, t[k].settings);
        trial_run(&t[k], count);
    }
    qsort(t, s.trials, sizeof *t, by_value);                   /* a trial begins with its loss */
    Table table = {.title = format("%s: search, best first", opt.data)};
    table_row(&table, "settings\tbest validation loss\tat step\tseconds");
    for (int k = 0; k < s.trials; k++)
        table_row(&table, "%s\t%.4f\t%.0f\t%.1f", t[k].settings, t[k].loss, t[k].step,
                  t[k].seconds);
    Writer *records = writer_in(out, "search.jsonl");
    table_done(&table, records);
    writer_close(records);
    size_t size;
    char *best = read_file(format("%s/best.bin", t->folder), &size);
    Writer *copy = writer_in(out, "best.bin");
    writer_put(copy, best, size);
    writer_close(copy);
    printf("\nthe best model: %s/best.bin, from %s\n", out, t->settings);
    command_report(1, &(char *){format("%s", out)});
    return 0;
}

/* ================================================================================================
 * 12. Command line
 */

/* Commands by letter: t text, i import, e export, g gpt2, x examples, r report. */
const Option prepare_options[] = {
    {"out", 's', &prep.out, NULL, 0, 0, "tiegx", "what to write: data/NAME, a file or a folder"},
    {"tokenizer", 's', &prep.tokenizer, "data/gpt2_tokenizer.bin", 0, 0, "tex", "vocabulary"},
    {"val", 'f', &prep.val, "0.1", 0, 1, "tx", "share for validation"},
    {"seed", 'i', &prep.seed, "1", 0, INT32_MAX, "tx", "of everything random"},
    {"bf16", '!', &prep.bf16, NULL, 0, 0, "ieg", "2 bytes a number, not 4"},
    {"type", 's', &prep.type, NULL, 0, 0, "e", "of matrices: f32, f16, bf16, q8_0 (f32)"},
    {"url", 's', &prep.url, "https://huggingface.co/openai-community", 0, 0, "g",
     "where gpt2/resolve/main/model.safetensors is found"},
    {"test", 's', &prep.test, NULL, 0, 0, "x", "file whose rows are the test set, NAME_test.bin"},
    {"columns", 's', &prep.columns, NULL, 0, 0, "x",
     "what columns are: NAME=text,NAME=label,... or, without a header, label,text,-"},
    {"context", 'i', &prep.context, "1024", 2, 1e6, "x", "tokens a model can see"},
    {"model", 's', &prep.model, NULL, 0, 0, "xi",
     "model file whose cost is measured, or to which imported adapters belong"},
    {"adapter", 's', &prep.adapter, NULL, 0, 0, "e", "adapters to be merged into the model"},
    {"peft", '!', &prep.peft, NULL, 0, 0, "e", "write the adapters alone, for PEFT"},
    {"shots", 'i', &prep.shots, "4", 1, 1e3, "x", "examples in a prompt, to compare costs with"},
    {"drop-errors", '!', &prep.drop[ERRORS], NULL, 0, 0, "x", "leave rows with errors out"},
    {"drop-duplicates", '!', &prep.drop[DUPLICATES], NULL, 0, 0, "x", "the first of equal rows"},
    {"drop-near", '!', &prep.drop[NEAR], NULL, 0, 0, "x", "keep the first of similar rows"},
    {"drop-conflicts", '!', &prep.drop[CONFLICTS], NULL, 0, 0, "x", "no prompt with two answers"},
    {"drop-long", '!', &prep.drop[LONG], NULL, 0, 0, "x", "no row beyond the context"},
    {"augment-case", 'f', &prep.augment[CASE], "0", 0, 1, "x",
     "share of training rows to repeat, what the user says in small letters or capitals"},
    {"augment-typos", 'f', &prep.augment[TYPOS], "0", 0, 1, "x", "... with typing errors"},
    {"augment-drop", 'f', &prep.augment[DROP], "0", 0, 1, "x", "... with words left out"},
    {0}
};

/* One row, one command: called with the words that are not options. */
typedef struct {
    const char *name;
    char letter;                 /* in the table of options */
    const Option *options;       /* NULL: it parses its words itself */
    int (*run)(int words, char **word);
    int least, most;             /* how many words it takes, */
    const char *words, *out;     /* what they are, and what --out must be; NULL: none is needed */
    const char *usage;
} Command;

const Command prepare_commands[] = {
    {"text", 't', prepare_options, command_text, 1, INT_MAX, "the text files", "data/NAME",
     "./prepare text FILE... --out data/NAME        text to data/NAME_train.bin and ..._val.bin"},
    {"import", 'i', prepare_options, command_import, 1, 2,
     "a file or folder, or vocab.json and merges.txt", "the file to write",
     "./prepare import FILE|FOLDER --out M.bin      safetensors or llm.c's model to ours\n"
     "./prepare import vocab.json merges.txt --out T.bin          their vocabulary to ours;\n"
     "    tokenizer.json in place of the two is read, too"},
    {"export", 'e', prepare_options, command_export, 1, 1, "one model file",
     "the folder or .gguf file to write",
     "./prepare export M.bin --out FOLDER           ours to a folder for from_pretrained\n"
     "./prepare export M.bin --out M.gguf           ours to a file for llama.cpp"},
    {"gpt2", 'g', prepare_options, command_gpt2, 0, 1, "one name", NULL,
     "./prepare gpt2 [small|medium|large|xl]        fetch a published model and import it"},
    {"examples", 'x', prepare_options, command_examples, 1, INT_MAX, "the files to read",
     "data/NAME",
     "./prepare examples FILE... --out data/NAME    rows to learn from: JSON or a table with\n"
     "    messages, prompt and completion, question and answer, or text and label"},
    {"report", 'r', prepare_options, command_report, 1, 1, "one folder", NULL,
     "./prepare report FOLDER                       a page of what a run has recorded"},
    {"eval", 'e', options, command_eval, 0, 0, "options alone", NULL,
     "./prepare eval --model M --data D             held-out loss and labels, with intervals"},
    {"compare", 'p', options, command_compare, 0, 0, "options alone", NULL,
     "./prepare compare --model M --tuned T --data D     prompting against fine-tuning"},
    {"classify", 'k', options, command_classify, 0, 0, "options alone", NULL,
     "./prepare classify --model M --labels A,B     a line in, a label out"},
    {"explain", 'n', options, command_explain, 1, 1, "one text in quotes", NULL,
     "./prepare explain \"TEXT\" --model M           a page: one forward pass opened up"},
    {"search", 0, NULL, command_search, 0, INT_MAX, NULL, NULL,
     "./prepare search --lr A,B ...                 train with every combination"},
    {0}
};

#ifndef NO_MAIN_PREPARE

int main(int argc, char **argv)
{
    begin_program(argv);
    const Command *c = prepare_commands;
    int help = argc > 1 && !strcmp(argv[1], "--help"), words = argc - 2;
    if (argc < 2 || help) {
        for (; c->name; c++) fprintf(help ? stdout : stderr, "%s\n", c->usage);
        fprintf(help ? stdout : stderr, "COMMAND --help lists the options.\n");
        return finish_output(help ? 0 : 2);
    }
    while (c->name && strcmp(argv[1], c->name)) c++;
    if (!c->name) die_usage("unknown command '%s'; ./prepare --help lists them", argv[1]);
    if (c->options) words = options_parse(c->options, c->letter, c->usage, words, argv + 2);
    options_apply();
    if (words < c->least || words > c->most)
        die_usage("%s: expected %s, found %d words", c->name, c->words, words);
    if (c->out && !prep.out) die_usage("%s: expected --out, %s", c->name, c->out);
    return finish_output(c->run(words, argv + 2));
}

#endif /* NO_MAIN_PREPARE */
