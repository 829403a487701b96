/* prepare.c - everything that belongs to someone else becomes files for train_gpt, and back.
 *
 *     make prepare          or          cc -O3 -march=native -o prepare prepare.c -lm
 *     ./prepare text FILE... --out data/NAME      text to data/NAME_train.bin and data/NAME_val.bin
 *     ./prepare import FILE|FOLDER --out M.bin    Hugging Face's model, or llm.c's, to ours
 *     ./prepare export M.bin --out FOLDER         ours to a folder for from_pretrained
 *     ./prepare gpt2 [small|medium|large|xl]      fetch a published model and import it
 *
 *   1. Text           documents, their split into training and validation, token files
 *   2. Vocabularies   vocab.json and merges.txt, read and written
 *   3. Safetensors    a file of tensors that is not believed until it is checked
 *   4. Import
 *   5. Export
 *   6. Download
 *   7. Command line
 *
 * It includes train_gpt.c for one thing: the table of tensors, which has the names of others, too.
 * Formats: [safetensors] github.com/huggingface/safetensors   [llm.c] github.com/karpathy/llm.c
 */
#ifndef PREPARE_C
#define PREPARE_C
#define NO_MAIN_TRAIN_GPT
#include "train_gpt.c"
#include <sys/wait.h>

/* What the command line asked for; the table in the last chapter fills it. */
struct {
    const char *out, *tokenizer, *url;
    double val;
    int seed, bf16;
} given;

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

/* "name" in a folder, or beside a file; NULL if it is not there. */
char *file_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *found = is_folder(path) ? format("%s/%s", path, name)
                : slash           ? format("%.*s/%s", (int)(slash - path), path, name)
                                  : format("%s", name);
    if (access(found, F_OK) == 0) return found;
    free(found);
    return NULL;
}

Writer *writer_in(const char *folder, const char *name)
{
    char *path = format("%s/%s", folder, name);
    Writer *w = writer_open(path);
    free(path);
    return w;
}

/* A name out of a file, fit for a message of one line. */
const char *shown(char *name)
{
    for (char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F) *c = '?';
    return name;
}

enum { JSON_MOST = 8 << 20 };    /* a hostile file must not fill the memory; GPT-2's need 1 MB */

/* The object that the next `size` bytes of a file are, in JSON. */
Json *json_read(Reader *r, size_t size)
{
    char error[200];
    if (size > JSON_MOST)
        die("%s: expected at most %d bytes of JSON, found %zu", r->path, JSON_MOST, size);
    char *text = allocate(size, 1);
    reader_get(r, text, size);
    Json *json = json_parse(text, size, error, sizeof error);
    if (!json) die("%s: %s", r->path, error);
    if (json->type != '{') die("%s: expected an object in braces", r->path);
    free(text);
    return json;
}

Json *json_file(const char *path)
{
    Reader r = reader_open(path);
    Json *json = json_read(&r, r.size);
    reader_close(&r);
    return json;
}

/* A size, an offset or an id. JSON's numbers are doubles: beyond 2^53 they are not exact. */
size_t json_whole(const Json *value, const char *path, const char *what)
{
    if (!value || value->type != '0' || !(value->number >= 0 && value->number < 0x1p53) ||
        value->number != floor(value->number))
        die("%s: %s: expected a whole number, found %.20s", path, what,
            !value ? "none" : value->type == '0' ? value->text : "something else");
    return (size_t)value->number;
}

/* ================================================================================================
 * 1. Text
 *
 * A validation loss is worth something only if nothing of what it is measured on was learned. Cut
 * at a character position, the end of one story would be validated by its beginning, so whole
 * documents go to one side or the other, chosen by a seed.
 *
 * Documents are separated by lines <|endoftext|>. A file without such a line is cut into parts: at
 * the first blank line after 8 KB (or after a tenth of all input, if that is less), or at the
 * first line of any kind after twice as much. Rejected: one file, one document; a book could then
 * not be divided at all.
 */

enum { PART = 8192 };

typedef struct { const char *text; size_t size; } Document;
typedef struct { Document *document; size_t count; } Documents;

/* Enter a document without the white space around it, unless nothing is left. */
void documents_add(Documents *d, const char *text, size_t size)
{
    while (size > 0 && isspace((unsigned char)text[size - 1])) size--;
    while (size > 0 && isspace((unsigned char)*text)) text++, size--;
    if (size == 0) return;
    if ((d->count & (d->count - 1)) == 0)              /* room doubles at powers of two */
        d->document = reallocate(d->document, 2 * d->count + 1, sizeof *d->document);
    d->document[d->count++] = (Document){text, size};
}

/* Enter the documents of a text: those between separators (part 0), or parts of that size. Returns
 * the number of cuts. */
int documents_split(Documents *d, const char *text, size_t size, size_t part)
{
    const char *end = text + size, *begin = text;
    int cuts = 0;
    for (const char *line = text, *next; line < end; line = next) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        next = newline ? newline + 1 : end;
        size_t length = (size_t)(next - line), so_far = (size_t)(line - begin);
        while (length > 0 && isspace((unsigned char)line[length - 1])) length--;
        int cut = part ? so_far >= part && (length == 0 || so_far >= 2 * part)
                : length == END_OF_TEXT_SIZE && !memcmp(line, END_OF_TEXT, length);
        if (!cut) continue;
        documents_add(d, begin, so_far);
        begin = part ? line : next;
        cuts++;
    }
    documents_add(d, begin, (size_t)(end - begin));
    return cuts;
}

/* Choose round(share * count) documents, at least one and not all: 1 for each that was chosen. */
char *documents_choose(size_t count, double share, int seed)
{
    size_t *order = allocate(count, sizeof *order), wanted = (size_t)(share * (double)count + 0.5);
    char *chosen = allocate(count, 1);
    wanted = wanted < 1 ? 1 : wanted > count - 1 ? count - 1 : wanted;
    for (size_t i = 0; i < count; i++) order[i] = i;
    for (size_t i = 0; i < wanted; i++) {              /* the first steps of a shuffle */
        double random = random_uniform(random_key((uint64_t)seed, i), 0);
        size_t j = i + (size_t)(random * (double)(count - i));
        chosen[order[j]] = 1;
        order[j] = order[i];
    }
    free(order);
    return chosen;
}

/* Write a token file: version 2 if t->counts says which targets count, else version 1. */
void tokens_write(const Tokens *t)
{
    if (t->count > INT32_MAX)
        die("%s: %zu tokens are too many for one file; divide the input", t->path, t->count);
    int32_t header[HEADER] = {TOKENS_MAGIC, t->counts ? 2 : 1, (int32_t)t->count};
    Writer *w = writer_open(t->path);
    writer_put(w, header, sizeof header);
    writer_put(w, t->ids, t->count * sizeof *t->ids);
    if (t->counts) writer_put(w, t->counts, t->count);
    writer_close(w);
}

/* A vocabulary whose ids fit into a token file's 16 bits. */
Tokenizer *tokenizer_for_tokens(const char *path)
{
    Tokenizer *t = tokenizer_read(path);
    if (t->count > 1 << 16)
        die("%s: has %d tokens; a token file can name 65536", path, t->count);
    return t;
}

/* Write the documents whose mark is `side`, each as <|endoftext|> and its tokens. */
void documents_write(const Documents *d, const char *chosen, int side, Tokenizer *t)
{
    char *path = format("%s_%s.bin", given.out, side ? "val" : "train");
    Tokens tokens = {.path = path};
    size_t documents = 0, bytes = 0, room = 0, count;
    for (size_t i = 0; i < d->count; i++) {
        if (chosen[i] != side) continue;
        int32_t *ids = tokenizer_encode(t, d->document[i].text, d->document[i].size, 0, &count);
        if (tokens.count + count + 1 > room) {
            room = 2 * room + count + 1;
            tokens.ids = reallocate(tokens.ids, room, sizeof *tokens.ids);
        }
        tokens.ids[tokens.count++] = (uint16_t)t->end_of_text;
        for (size_t k = 0; k < count; k++) tokens.ids[tokens.count++] = (uint16_t)ids[k];
        documents++, bytes += d->document[i].size;
        free(ids);
    }
    tokens_write(&tokens);
    printf("%s: %zu documents, %zu bytes, %zu tokens\n", path, documents, bytes, tokens.count);
    tokens_free(&tokens);
    free(path);
}

int command_text(int words, char **word)
{
    char **texts = allocate((size_t)words, sizeof *texts);
    size_t *sizes = allocate((size_t)words, sizeof *sizes), total = 0;
    Documents d = {0};
    if (words == 0) die_usage("text: expected the text files");
    if (!given.out) die_usage("text: expected --out data/NAME");
    Tokenizer *t = tokenizer_for_tokens(given.tokenizer);
    for (int i = 0; i < words; i++) {
        texts[i] = read_file(word[i], &sizes[i]);
        total += sizes[i];
    }
    size_t part = total / 10 < PART ? total / 10 + 1 : PART;
    for (int i = 0; i < words; i++) {
        size_t before = d.count;
        if (documents_split(&d, texts[i], sizes[i], 0) > 0) continue;
        d.count = before;
        documents_split(&d, texts[i], sizes[i], part);
    }
    if (d.count == 0) die("%s: there is no text%s", word[0], words > 1 ? ", nor in others" : "");
    if (d.count == 1)
        die("%s: one document cannot be divided into training and validation; put lines %s between "
            "documents", word[0], END_OF_TEXT);
    char *chosen = documents_choose(d.count, given.val, given.seed);
    for (int side = 0; side < 2; side++) documents_write(&d, chosen, side, t);
    for (int i = 0; i < words; i++) free(texts[i]);
    free(texts), free(sizes), free(d.document), free(chosen);
    tokenizer_free(t);
    return 0;
}

/* ================================================================================================
 * 2. Vocabularies
 *
 * Others keep a vocabulary in two files: vocab.json gives each token its id, merges.txt lists the
 * pairs in the order in which they are merged. Both write bytes as the characters of
 * tokenizer_byte_code_point. We keep only the spellings in order of id, which says the same: the
 * merge that comes first is that of the lowest id. When reading, this is checked for every token.
 */

enum { WORD = 2 * TOKEN_BYTES + 1 };                   /* a token as others write it, and a zero */

/* Write a token as a word of characters; returns its length. */
size_t word_from_token(char word[WORD], const Tokenizer *t, int id)
{
    int size;
    const char *bytes = tokenizer_bytes(t, id, &size);
    size_t length = 0;
    for (int i = 0; i < size; i++)
        length += utf8_encode(word + length,
                              (uint32_t)tokenizer_byte_code_point((unsigned char)bytes[i]));
    word[length] = 0;
    return length;
}

/* The bytes that a word stands for; their number, or 0 if it has none, too many, or a character
 * that stands for no byte. */
size_t bytes_from_word(char bytes[TOKEN_BYTES], const char *word, size_t size)
{
    static short byte_of[0x200];                       /* by code point: byte + 1 */
    size_t count = 0, length;
    if (!byte_of['a'])
        for (int b = 0; b < 256; b++) byte_of[tokenizer_byte_code_point(b)] = (short)(b + 1);
    for (uint32_t c; size > 0; word += length, size -= length) {
        length = utf8_decode(word, size, &c);
        if (length == 0 || c >= 0x200 || !byte_of[c] || count == TOKEN_BYTES) return 0;
        bytes[count++] = (char)(byte_of[c] - 1);
    }
    return count;
}

/* The id of a word of merges.txt or of two together; -1 if it is no token. */
int id_of_words(const Tokenizer *t, const char *first, size_t m, const char *second, size_t n)
{
    char bytes[2 * TOKEN_BYTES];
    size_t left = bytes_from_word(bytes, first, m);
    size_t right = n ? bytes_from_word(bytes + left, second, n) : 0;
    if (left == 0 || (n && right == 0)) return -1;
    return (int)map_find(&t->ids, bytes, left + right)->value - 1;
}

/* Die unless merges.txt, line by line, is what the order of the ids implies. */
void merges_check(const Tokenizer *t, const char *path)
{
    size_t size;
    char *text = read_file(path, &size), *end = text + size;
    int number = 1, last = -1, merges = 0, left, right;
    for (char *line = text, *next; line < end; line = next + 1, number++) {
        if (!(next = memchr(line, '\n', (size_t)(end - line)))) next = end;
        size_t length = (size_t)(next - line);
        if (length > 0 && line[length - 1] == '\r') length--;
        if (length == 0 || (number == 1 && line[0] == '#')) continue;
        char *space = memchr(line, ' ', length);
        size_t m = space ? (size_t)(space - line) : length, n = space ? length - m - 1 : 0;
        int id = space ? id_of_words(t, line, m, space + 1, n) : -1;
        if (id <= last || !tokenizer_merge(t, id, &left, &right) || n == 0 ||
            left != id_of_words(t, line, m, NULL, 0) ||
            right != id_of_words(t, space + 1, n, NULL, 0))
            die("%s: line %d: is not the merge that the ids in vocab.json imply; only vocabularies "
                "of GPT-2's kind can be imported", path, number);
        last = id;
        merges++;
    }
    for (int id = 0; id < t->count; id++) merges -= tokenizer_merge(t, id, &left, &right);
    if (merges != 0)
        die("%s: lacks %d merges that the ids in vocab.json imply", path, -merges);
    free(text);
}

/* Read a vocabulary as Hugging Face keeps it. */
Tokenizer *vocabulary_read(const char *vocab, const char *merges)
{
    Json *json = json_file(vocab), *end = json_get(json, END_OF_TEXT);
    if (json->count < 257) die("%s: expected at least 257 tokens, found %zu", vocab, json->count);
    if (!end) die("%s: expected a token " END_OF_TEXT, vocab);
    Json **token = allocate(json->count, sizeof *token);
    for (Json *member = json->child; member; member = member->next) {
        size_t id = json_whole(member, vocab, shown(member->key));
        if (id >= json->count || token[id])
            die("%s: expected each id from 0 to %zu once, found %zu for '%.40s'", vocab,
                json->count - 1, id, shown(member->key));
        token[id] = member;
    }
    Tokenizer *t = tokenizer_new();
    t->end_of_text = (int)end->number;
    for (size_t id = 0; id < json->count; id++) {
        char bytes[TOKEN_BYTES];
        size_t size = bytes_from_word(bytes, token[id]->key, token[id]->key_size);
        if (size == 0)
            die("%s: token %zu, '%.40s': expected 1 to %d characters of GPT-2's 256", vocab, id,
                shown(token[id]->key), TOKEN_BYTES);
        tokenizer_add(t, bytes, size);
    }
    if (!tokenizer_index(t)) die("%s: expected a token for each of the 256 bytes", vocab);
    free(token);
    json_free(json);
    merges_check(t, merges);
    return t;
}

void vocabulary_write(const Tokenizer *t, const char *folder)
{
    char word[WORD];
    int left, right;
    Writer *w = writer_in(folder, "vocab.json");
    for (int id = 0; id < t->count; id++) {
        size_t size = word_from_token(word, t, id), bytes = token_size(t, id);
        int64_t other = map_find(&t->ids, t->bytes + t->start[id], bytes)->value - 1;
        if (other >= 0 && other != id)
            die("%s: tokens %d and %d are spelled alike; a vocab.json cannot hold both", w->path,
                (int)other, id);
        fputs(id ? ", " : "{", w->file);
        json_write_string(w->file, word, size);
        writer_print(w, ": %d", id);
    }
    writer_print(w, "}\n");
    writer_close(w);
    w = writer_in(folder, "merges.txt");
    writer_print(w, "#version: 0.2\n");
    for (int id = 0; id < t->count; id++) {
        if (!tokenizer_merge(t, id, &left, &right)) continue;
        word_from_token(word, t, left);
        writer_print(w, "%s ", word);
        word_from_token(word, t, right);
        writer_print(w, "%s\n", word);
    }
    writer_close(w);
}

/* ================================================================================================
 * 3. Safetensors
 *
 * Eight bytes give the length of a header; the header is JSON: for each tensor its type, shape and
 * first and last byte among the data that follow. Whoever wrote the file may have been careless or
 * hostile, so it is believed only when all of this holds: every length fits into the file; the
 * bytes of a tensor are as many as type and shape need; tensors neither overlap nor leave a gap;
 * every tensor of the model is there once and in its shape; no tensor is unknown.
 *
 * Names may begin with "transformer.". Old files hold masks of attention ("attn.bias"), which are
 * no parameters, and some a head: GPT-2's is wte itself, so it must be equal. Data need not be
 * aligned: the published gpt2 has a header of 14,283 bytes.
 */

enum { F32, F16, BF16, READABLE };

const struct { const char *name; size_t bytes; } number_types[] = {
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1},
    {"U8", 1}, {"BOOL", 1}, {NULL, 0}
};

typedef struct {
    Reader *file;                /* NULL: not there */
    int type, dims;
    size_t shape[2];             /* the first two */
    size_t from, to;             /* bytes of the file */
} Stored;

enum { WTE, WPE, HEAD = TENSORS, MOST_LAYERS = 1000 };   /* rows of the table; a head comes after */

typedef struct {
    Config c;
    Tensor tensors[TENSORS];                           /* as stored: the vocabulary not padded */
    Stored (*stored)[MOST_LAYERS];                     /* [row of the table][layer] */
    Reader *files;
    int count;
} Weights;

/* Linear layers are stored as (in, out), ours as (out, in). */
int stored_transposed(const Tensor *t)
{
    return t->first_value == LINEAR || t->first_value == RESIDUAL;
}

/* The shape of a tensor as it is stored: one dimension (and shape[1] = 0), or two. */
int stored_shape(const Tensor *t, size_t shape[2])
{
    int dims = t->first_value == ONES || t->first_value == ZEROS ? 1 : 2;
    int turned = dims == 1 || stored_transposed(t);
    shape[0] = (size_t)(turned ? t->columns : t->rows);
    shape[1] = dims == 1 ? 0 : (size_t)(turned ? t->rows : t->columns);
    return dims;
}

/* With %d for the layer, if there is one for each. */
const char *stored_name(const Weights *w, int i)
{
    return i == HEAD ? "lm_head.weight" : w->tensors[i].name;
}

/* One entry of a header: check it by itself. Data begin at byte `data` of the file. */
Stored stored_read(Reader *r, Json *entry, size_t data)
{
    Stored s = {.file = r};
    const char *name = shown(entry->key);
    const Json *type = json_get(entry, "dtype"), *shape = json_get(entry, "shape");
    const Json *offsets = json_get(entry, "data_offsets");
    if (!type || type->type != '"' || !shape || shape->type != '[' || !offsets ||
        offsets->type != '[' || offsets->count != 2)
        die("%s: tensor '%.60s': expected dtype, shape and two data_offsets", r->path, name);
    while (number_types[s.type].name && strcmp(number_types[s.type].name, type->text)) s.type++;
    if (!number_types[s.type].name)
        die("%s: tensor '%.60s': the type '%.20s' is unknown", r->path, name, shown(type->text));
    size_t bytes = number_types[s.type].bytes, most = r->size - data;
    for (const Json *d = shape->child; d; d = d->next, s.dims++) {
        size_t n = json_whole(d, r->path, "a shape");
        if (s.dims < 2) s.shape[s.dims] = n;
        if (__builtin_mul_overflow(bytes, n, &bytes))
            die("%s: tensor '%.60s': the shape is too large for any file", r->path, name);
    }
    s.from = json_whole(offsets->child, r->path, "data_offsets");
    s.to = json_whole(offsets->child->next, r->path, "data_offsets");
    if (s.from > s.to || s.to > most)
        die("%s: tensor '%.60s' is at bytes %zu to %zu of the data, which have %zu: it is damaged "
            "or truncated", r->path, name, s.from, s.to, most);
    if (s.to - s.from != bytes)
        die("%s: tensor '%.60s': its shape needs %zu bytes, it has %zu", r->path, name, bytes,
            s.to - s.from);
    s.from += data;
    s.to += data;
    return s;
}

/* Keep a tensor in the place that its name gives it. */
void stored_place(Weights *w, const Stored *s, Json *entry)
{
    const char *path = s->file->path, *name = shown(entry->key);
    char known[100];
    if (!strncmp(name, "transformer.", 12)) name += 12;
    long layer = strncmp(name, "h.", 2) ? 0 : strtol(name + 2, NULL, 10);
    for (int mask = 0; mask < 2; mask++) {
        snprintf(known, sizeof known, mask ? "h.%ld.attn.masked_bias" : "h.%ld.attn.bias", layer);
        if (!strcmp(known, name)) return;
    }
    for (int i = 0; i <= HEAD; i++) {
        snprintf(known, sizeof known, stored_name(w, i), (int)layer);
        if (strcmp(known, name)) continue;
        if (layer < 0 || layer >= MOST_LAYERS) die("%s: layer %ld is impossible", path, layer);
        if (w->stored[i][layer].file) die("%s: tensor '%s' is there twice", path, known);
        w->stored[i][layer] = *s;
        if (layer >= w->c.L) w->c.L = (int)layer + 1;
        return;
    }
    die("%s: GPT-2 has no tensor '%.60s'", path, name);
}

int stored_order(const void *a, const void *b)
{
    const Stored *s = a, *t = b;
    return s->from != t->from ? (s->from > t->from) - (s->from < t->from)
                              : (s->to > t->to) - (s->to < t->to);
}

/* Enter all tensors of one more file; its path is the table's to free. */
void weights_add(Weights *w, char *path)
{
    Reader *r = &w->files[w->count++];
    uint64_t header;
    *r = reader_open(path);
    reader_get(r, &header, sizeof header);
    if (header > r->size - r->at)
        die("%s: expected a safetensors file, found one that is damaged or something else: its "
            "header would have %" PRIu64 " bytes, %zu follow", path, header, r->size - r->at);
    Json *json = json_read(r, (size_t)header);
    Stored *all = allocate(json->count, sizeof *all);
    size_t at = r->at, n = 0;
    for (Json *entry = json->child; entry; entry = entry->next) {
        if (!strcmp(entry->key, "__metadata__")) continue;
        all[n] = stored_read(r, entry, at);
        stored_place(w, &all[n++], entry);
    }
    qsort(all, n, sizeof *all, stored_order);
    for (size_t i = 0; i < n; at = all[i++].to)
        if (all[i].from != at)
            die("%s: the bytes before %zu belong to %s", path, all[i].from > at ? all[i].from : at,
                all[i].from > at ? "no tensor" : "two tensors");
    if (at != r->size) die("%s: the last %zu bytes belong to no tensor", path, r->size - at);
    free(all);
    json_free(json);
}

/* Check tensor i of layer l against the shape of the model; HEAD may be missing. */
void stored_check(const Weights *w, int i, int l, const char *path)
{
    const Stored *s = &w->stored[i][l];
    size_t shape[2] = {0};
    int dims = stored_shape(&w->tensors[i == HEAD ? WTE : i], shape);
    char name[100];
    snprintf(name, sizeof name, stored_name(w, i), l);
    if (!s->file && i == HEAD) return;
    if (!s->file) die("%s: tensor %s is missing", path, name);
    if (s->type >= READABLE)
        die("%s: tensor %s: expected numbers in F32, F16 or BF16, found %s", path, name,
            number_types[s->type].name);
    if (s->dims != dims || memcmp(s->shape, shape, sizeof shape))
        die("%s: tensor %s: expected %d dimensions, %zu and %zu, found %d, %zu and %zu", path, name,
            dims, shape[0], shape[1], s->dims, s->shape[0], s->shape[1]);
}

/* Find the model's shape in those of its tensors, and check that all agree. */
void weights_shape(Weights *w, const char *path)
{
    const Stored *wte = w->stored[WTE], *wpe = w->stored[WPE];
    const size_t most = 1 << 30;                       /* config_check refuses this, too */
    if (!wte->file || !wpe->file || wte->dims != 2 || wpe->dims != 2)
        die("%s: expected wte.weight and wpe.weight in two dimensions: this is no GPT-2", path);
    w->c.V = w->c.Vp = (int)(wte->shape[0] < most ? wte->shape[0] : most);
    w->c.C = (int)(wte->shape[1] < most ? wte->shape[1] : most);
    w->c.T = (int)(wpe->shape[0] < most ? wpe->shape[0] : most);
    w->c.NH = 1;                                       /* no tensor tells */
    config_check(w->c, path);
    tensors_describe(w->c, w->tensors);
    for (int i = 0; i <= HEAD; i++)
        for (int l = 0; l < (i < HEAD && w->tensors[i].layered ? w->c.L : 1); l++)
            stored_check(w, i, l, path);
}

/* Open a model in one safetensors file, or in the several that an index names. */
Weights weights_open(const char *path)
{
    Weights w = {.stored = allocate(HEAD + 1, sizeof *w.stored)};
    tensors_describe(w.c, w.tensors);                  /* for the names */
    if (!ends_with(path, ".json")) {
        w.files = allocate(1, sizeof *w.files);
        weights_add(&w, format("%s", path));
    } else {
        Json *index = json_file(path), *map = json_get(index, "weight_map");
        Map seen = {0};
        if (!map || !map->child) die("%s: expected a weight_map that names files", path);
        w.files = allocate(map->count, sizeof *w.files);
        for (Json *m = map->child; m; m = m->next) {
            if (m->type != '"' || !m->size || m->size != strlen(m->text) || strchr(m->text, '/'))
                die("%s: weight_map: expected names of files in the same folder", path);
            if (map_enter(&seen, m->text, m->size)->value++) continue;
            char *file = file_beside(path, m->text);
            if (!file) die("%s: names %s, which is not there", path, shown(m->text));
            weights_add(&w, file);
        }
        free(seen.entry);
        json_free(index);
    }
    weights_shape(&w, path);
    return w;
}

void weights_close(Weights *w)
{
    for (int i = 0; i < w->count; i++) {
        reader_close(&w->files[i]);
        free((char *)w->files[i].path);
    }
    free(w->files), free(w->stored);
}

/* ================================================================================================
 * 4. Import
 *
 * Tensors are read one by one, straight into the model. Hugging Face's linear layers are (in, out),
 * ours (out, in): they pass through a buffer. llm.c's files are ours already.
 */

/* IEEE half precision: 5 bits of exponent, 10 of fraction. Moved into place, they are a float that
 * is too small by 2^112, also if it is subnormal; what had the highest exponent is not finite. */
static inline float f16_to(uint16_t x)
{
    union { uint32_t i; float f; } u = {(x & 0x7fffu) << 13};
    u.f *= 0x1p112f;
    if (u.f >= 0x1p16f) u.i |= 0x7f800000;
    u.i |= (x & 0x8000u) << 16;
    return u.f;
}

/* Read the `count` numbers of a tensor into x. */
void stored_numbers(const Stored *s, real *x, size_t count)
{
    reader_seek(s->file, s->from);
    if (s->type != F16) {
        read_numbers(s->file, x, count, s->type == BF16);
        return;
    }
    uint16_t *half = reallocate(NULL, count, sizeof *half);
    reader_get(s->file, half, count * sizeof *half);
    for (size_t i = 0; i < count; i++) x[i] = f16_to(half[i]);
    free(half);
}

/* y(columns, rows) = x(rows, columns) transposed, in squares that the cache holds. */
void matrix_turn(real *y, const real *x, size_t rows, size_t columns)
{
    enum { SIDE = 32 };
    for (size_t i0 = 0; i0 < rows; i0 += SIDE)
        for (size_t j0 = 0; j0 < columns; j0 += SIDE)
            for (size_t j = j0; j < j0 + SIDE && j < columns; j++)
                for (size_t i = i0; i < i0 + SIDE && i < rows; i++)
                    y[j * rows + i] = x[i * columns + j];
}

/* Read one layer of a tensor to where the model has it. */
void stored_load(const Stored *s, const Tensor *t, real *to)
{
    if (!stored_transposed(t)) {
        stored_numbers(s, to, t->size);
        return;
    }
    real *turned = allocate_reals(t->size);
    stored_numbers(s, turned, t->size);
    matrix_turn(to, turned, (size_t)t->columns, (size_t)t->rows);
    free_reals(turned);
}

/* Check config.json against the shapes found in the weights, and take the number of heads from it,
 * which no shape tells. What is not mentioned is as in GPT-2. */
void config_read(Config *c, const char *path)
{
    const struct { const char *key; char type; double number; const char *text; } must[] = {
        {"model_type",                     '"', 0,        "gpt2"},
        {"activation_function",            '"', 0,        "gelu_new"},
        {"layer_norm_epsilon",             '0', 1e-5,     "0.00001"},
        {"vocab_size",                     '0', c->V,     "as in wte.weight"},
        {"n_positions",                    '0', c->T,     "as in wpe.weight"},
        {"n_embd",                         '0', c->C,     "as in wte.weight"},
        {"n_layer",                        '0', c->L,     "as many as the weights have"},
        {"n_inner",                        '0', 4.0*c->C, "four times n_embd"},
        {"scale_attn_weights",             't', 0,        "true"},
        {"scale_attn_by_inverse_layer_idx",'f', 0,        "false"},
        {"reorder_and_upcast_attn",        'f', 0,        "false"},
        {"add_cross_attention",            'f', 0,        "false"},
    };
    Json *json = json_file(path);
    for (size_t i = 0; i < sizeof must / sizeof *must; i++) {
        const Json *v = json_get(json, must[i].key);
        if (!v || v->type == 'n') continue;
        if (v->type != must[i].type || (v->type == '0' && v->number != must[i].number) ||
            (v->type == '"' && strcmp(v->text, must[i].text)))
            die("%s: %s: expected %s, found %.20s; another kind of model cannot be imported", path,
                must[i].key, must[i].text, v->text ? shown(v->text) : "something else");
    }
    size_t heads = json_whole(json_get(json, "n_head"), path, "n_head");
    c->NH = heads < 1 << 16 ? (int)heads : 0;
    json_free(json);
}

/* The shape of a model in safetensors, padded as llm.c does: V to a multiple of 128. */
Config config_complete(const Weights *w, const char *path)
{
    Config c = w->c;
    char *config = file_beside(path, "config.json");
    if (config) config_read(&c, config);
    else if (c.C % 64) die("%s: config.json is not beside it, and with %d channels there is no "
                           "telling the number of heads", path, c.C);
    else {
        c.NH = c.C / 64;
        printf("%s: no config.json: taking heads of 64 channels, as in GPT-2: %d\n", path, c.NH);
    }
    c.Vp = (c.V + 127) / 128 * 128;
    config_check(c, config ? config : path);
    free(config);
    return c;
}

/* Die unless a head, if there is one, equals wte. */
void head_check(const Weights *w, const real *wte, const char *path)
{
    size_t count = w->tensors[WTE].size;
    if (!w->stored[HEAD][0].file) return;
    real *head = allocate_reals(count);
    stored_numbers(w->stored[HEAD], head, count);
    for (size_t i = 0; i < count; i++)
        if (head[i] != wte[i])
            die("%s: lm_head.weight differs from wte.weight at number %zu (%g, %g); GPT-2 has one "
                "tensor for both", path, i, (double)head[i], (double)wte[i]);
    free_reals(head);
}

/* Read a model from safetensors. */
Model *safetensors_read(const char *path)
{
    Weights w = weights_open(path);
    Model *m = model_new(config_complete(&w, path));
    for (int i = 0; i < TENSORS; i++)
        for (int l = 0; l < (w.tensors[i].layered ? w.c.L : 1); l++)
            stored_load(&w.stored[i][l], &w.tensors[i], (&m->w.wte)[i] + l * w.tensors[i].size);
    params_check(m, m->w, path);
    head_check(&w, m->w.wte, path);
    weights_close(&w);
    return m;
}

int is_model_file(const char *path)
{
    int32_t magic = 0;
    Reader r = reader_open(path);
    if (r.size >= sizeof magic) reader_get(&r, &magic, sizeof magic);
    reader_close(&r);
    return magic == MODEL_MAGIC;
}

void vocabulary_import(const char *vocab, const char *merges, const char *out)
{
    Tokenizer *t = vocabulary_read(vocab, merges);
    tokenizer_write(t, out);
    printf("%s: %d tokens, end of text %d\n", out, t->count, t->end_of_text);
    tokenizer_free(t);
}

/* Import a model: a file, or a folder's; also its vocabulary, if the folder has one. */
void model_import(const char *path, const char *out)
{
    int folder = is_folder(path);
    char *file = folder ? file_beside(path, "model.safetensors") : format("%s", path);
    if (!file) file = file_beside(path, "model.safetensors.index.json");
    if (!file)
        die("%s: has neither model.safetensors nor model.safetensors.index.json; other formats "
            "must first be saved as these", path);
    Model *m = is_model_file(file) ? model_read(file) : safetensors_read(file);
    Config c = m->c;
    model_write(m, out, given.bf16);
    printf("%s: %.1f million parameters, %d layers, %d heads, %d channels, context %d, vocabulary "
           "%d, %s\n", out, (double)(m->count - (size_t)(c.Vp - c.V) * c.C) / 1e6, c.L, c.NH, c.C,
           c.T, c.V, given.bf16 ? "bf16" : "fp32");
    char *vocab = folder ? file_beside(path, "vocab.json") : NULL;
    char *merges = folder ? file_beside(path, "merges.txt") : NULL;
    if (vocab && merges) {
        int length = (int)strlen(out) - (ends_with(out, ".bin") ? 4 : 0);
        char *tokenizer = format("%.*s_tokenizer.bin", length, out);
        vocabulary_import(vocab, merges, tokenizer);
        free(tokenizer);
    }
    free(file), free(vocab), free(merges);
    model_free(m);
}

int command_import(int words, char **word)
{
    if (words < 1 || words > 2)
        die_usage("import: expected a file or folder, or vocab.json and merges.txt");
    if (!given.out) die_usage("import: expected --out, the file to write");
    if (words == 2) vocabulary_import(word[0], word[1], given.out);
    else model_import(word[0], given.out);
    return 0;
}

/* ================================================================================================
 * 5. Export
 *
 * A folder as transformers writes it. The header is put together first, with the same loops that
 * then write the data, and filled with blanks to a multiple of 8 bytes.
 */

/* The header of a safetensors file, in new memory. */
char *safetensors_header(const Tensor tensors[TENSORS], int layers, int bf16, size_t *size)
{
    char *text;
    size_t at = 0, shape[2];
    FILE *file = open_memstream(&text, size);
    if (!file) die("out of memory");
    fprintf(file, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < TENSORS; i++)
        for (int l = 0; l < (tensors[i].layered ? layers : 1); l++) {
            size_t end = at + tensors[i].size * (bf16 ? 2 : 4);
            int dims = stored_shape(&tensors[i], shape);
            fprintf(file, ",\"transformer.");
            fprintf(file, tensors[i].name, l);
            fprintf(file, "\":{\"dtype\":\"%s\",\"shape\":[%zu", bf16 ? "BF16" : "F32", shape[0]);
            if (dims == 2) fprintf(file, ",%zu", shape[1]);
            fprintf(file, "],\"data_offsets\":[%zu,%zu]}", at, end);
            at = end;
        }
    fputc('}', file);
    while (ftell(file) % 8) fputc(' ', file);
    if (fclose(file) != 0) die("out of memory");
    return text;
}

/* Write one layer of a tensor. */
void stored_save(Writer *w, const Tensor *t, const real *from, int bf16)
{
    if (!stored_transposed(t)) {
        write_numbers(w, from, t->size, bf16);
        return;
    }
    real *turned = allocate_reals(t->size);
    matrix_turn(turned, from, (size_t)t->rows, (size_t)t->columns);
    write_numbers(w, turned, t->size, bf16);
    free_reals(turned);
}

void safetensors_write(const Model *m, const char *folder, int bf16)
{
    Config c = m->c;
    Tensor tensors[TENSORS];
    size_t size;
    c.Vp = c.V;                                        /* the padding is not theirs */
    tensors_describe(c, tensors);
    char *header = safetensors_header(tensors, c.L, bf16, &size);
    Writer *w = writer_in(folder, "model.safetensors");
    writer_put(w, &(uint64_t){size}, 8);
    writer_put(w, header, size);
    for (int i = 0; i < TENSORS; i++)
        for (int l = 0; l < (tensors[i].layered ? c.L : 1); l++)
            stored_save(w, &tensors[i], (&m->w.wte)[i] + l * tensors[i].size, bf16);
    writer_close(w);
    free(header);
}

/* The small files that tell transformers what the large ones are. */
void configs_write(const Config *c, const Tokenizer *t, const char *folder, int bf16)
{
    int end = t->end_of_text;
    char word[WORD];
    size_t size = word_from_token(word, t, end);
    Writer *w = writer_in(folder, "config.json");
    writer_print(w, "{\n  \"architectures\": [\"GPT2LMHeadModel\"],\n  \"model_type\": \"gpt2\",\n"
        "  \"vocab_size\": %d,\n  \"n_positions\": %d,\n  \"n_embd\": %d,\n  \"n_layer\": %d,\n"
        "  \"n_head\": %d,\n", c->V, c->T, c->C, c->L, c->NH);
    writer_print(w, "  \"activation_function\": \"gelu_new\",\n  \"layer_norm_epsilon\": 1e-05,\n"
        "  \"tie_word_embeddings\": true,\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n"
        "  \"torch_dtype\": \"%s\"\n}\n", end, end, bf16 ? "bfloat16" : "float32");
    writer_close(w);
    w = writer_in(folder, "generation_config.json");
    writer_print(w, "{\"bos_token_id\": %d, \"eos_token_id\": %d}\n", end, end);
    writer_close(w);
    w = writer_in(folder, "tokenizer_config.json");
    writer_print(w, "{\"tokenizer_class\": \"GPT2Tokenizer\", \"model_max_length\": %d", c->T);
    for (int i = 0; i < 3; i++) {
        writer_print(w, ", \"%s_token\": ", i == 0 ? "bos" : i == 1 ? "eos" : "unk");
        json_write_string(w->file, word, size);
    }
    writer_print(w, ", \"add_prefix_space\": false}\n");
    writer_close(w);
}

int command_export(int words, char **word)
{
    if (words != 1) die_usage("export: expected one model file");
    if (!given.out) die_usage("export: expected --out, the folder to write");
    Tokenizer *t = tokenizer_read(given.tokenizer);
    Model *m = model_read(word[0]);
    if (t->count > m->c.V)
        die("%s: has %d tokens, but %s has only %d: name its own with --tokenizer", given.tokenizer,
            t->count, word[0], m->c.V);
    make_folder(given.out);
    configs_write(&m->c, t, given.out, given.bf16);
    vocabulary_write(t, given.out);
    safetensors_write(m, given.out, given.bf16);
    printf("%s: model.safetensors (%s), config.json, generation_config.json, vocab.json, "
           "merges.txt, tokenizer_config.json\n", given.out, given.bf16 ? "BF16" : "F32");
    tokenizer_free(t);
    model_free(m);
    return 0;
}

/* ================================================================================================
 * 6. Download
 *
 * The user's own curl fetches a file under a temporary name; what has arrived stays there if the
 * connection breaks, and the next try goes on from it. A file gets its name when it is checked: a
 * safetensors file tells its own size, and a model must have the shape that was asked for.
 */

typedef struct { const char *name, *folder, *size; Config c; int megabytes; } Published;

const Published published[] = {
    /* name    at the address  ours     T     V      L  NH     C  Vp    MB */
    {"small",  "gpt2",         "124M",  {1024, 50257, 12, 12,  768, 50257},  548},
    {"medium", "gpt2-medium",  "355M",  {1024, 50257, 24, 16, 1024, 50257}, 1520},
    {"large",  "gpt2-large",   "774M",  {1024, 50257, 36, 20, 1280, 50257}, 3247},
    {"xl",     "gpt2-xl",      "1558M", {1024, 50257, 48, 25, 1600, 50257}, 6432},
    {0}
};

/* Run a program found in PATH; returns its exit status, 127 if there is none, 128 if killed. */
int run(char *const words[])
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) die("%s cannot be started: %s", words[0], strerror(errno));
    if (child == 0) {
        execvp(words[0], words);
        _exit(127);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) die("%s: %s", words[0], strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

off_t file_size(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : 0;
}

/* Let curl fetch url to path, from where an earlier try ended, as long as each try gets further. */
void curl(const char *url, const char *path)
{
    enum { CANNOT_RESUME = 33, NO_PROGRAM = 127, ENDED = 128 };   /* 33 is curl's, then ours */
    char *words[] = {"curl", "--fail", "--location", "--progress-bar", "--retry", "3",
                     "--connect-timeout", "30", "--speed-limit", "1", "--speed-time", "60",
                     "--continue-at", "-", "--output", (char *)path, "--url", (char *)url, NULL};
    off_t before = file_size(path), now;
    for (int status, anew = 0; (status = run(words)) != 0; before = now) {
        now = file_size(path);
        if (status == NO_PROGRAM)
            die("curl is not installed: install it, or fetch %s in another way and import it", url);
        if (status == CANNOT_RESUME && !anew++) unlink(path), now = 0;
        else if (now <= before || status == ENDED)
            die("%s: curl ended with status %d; run this again to go on with what has arrived in "
                "%s, or remove that to begin anew", url, status, path);
        fprintf(stderr, "curl ended with status %d, trying again\n", status);
        sleep(1);
    }
}

/* Fetch url to path unless it is there. If the check, which dies, finds something else, it is
 * removed like any unfinished file. */
void fetch(const char *url, const char *path, const Published *p)
{
    Writer arrived = {.path = (char *)path, .temporary = format("%s.partial", path)};
    if (access(path, F_OK) != 0) {
        printf("%s\n", url);
        curl(url, arrived.temporary);
        arrived.next = open_writers;
        open_writers = &arrived;
        if (ends_with(path, ".json")) json_free(json_file(arrived.temporary));
        else {
            Weights w = weights_open(arrived.temporary);
            if (w.c.V != p->c.V || w.c.T != p->c.T || w.c.L != p->c.L || w.c.C != p->c.C)
                die("%s: expected GPT-2 %s, %d layers of %d channels, found another model", url,
                    p->name, p->c.L, p->c.C);
            weights_close(&w);
        }
        open_writers = arrived.next;
        if (rename(arrived.temporary, path) != 0) die("%s: %s", path, strerror(errno));
    }
    free(arrived.temporary);
}

int command_gpt2(int words, char **word)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    const char *name = words ? word[0] : "small";
    const Published *p = published;
    while (p->name && strcmp(p->name, name)) p++;
    if (words > 1 || !p->name) die_usage("gpt2: expected small, medium, large or xl, found '%s'",
                                         words > 1 ? word[1] : name);
    char *out = given.out ? format("%s", given.out) : format("data/gpt2_%s.bin", p->size);
    if (access(out, F_OK) == 0) die("%s is there already; remove it to fetch it again", out);
    char *folder = format("%s.download", out), *path[2];
    make_folder(folder);
    printf("GPT-2 %s: %d MB to fetch, by way of %s\n", p->name, p->megabytes, folder);
    for (int i = 0; i < 2; i++) {
        char *url = format("%s/%s/resolve/main/%s", given.url, p->folder, names[i]);
        path[i] = format("%s/%s", folder, names[i]);
        fetch(url, path[i], p);
        free(url);
    }
    model_import(folder, out);
    for (int i = 0; i < 2; i++) {
        unlink(path[i]);
        free(path[i]);
    }
    rmdir(folder);
    free(folder), free(out);
    return 0;
}

/* ================================================================================================
 * 7. Command line
 */

const Option prepare_options[] = {
    /* name      kind value              initial  min  max        commands  help */
    {"out",       's', &given.out,       NULL,    0,   0,         "tieg", "what to write"},
    {"tokenizer", 's', &given.tokenizer, "data/gpt2_tokenizer.bin", 0, 0, "te", "vocabulary"},
    {"val",       'f', &given.val,       "0.1",   0,   1,         "t", "share for validation"},
    {"seed",      'i', &given.seed,      "1",     0,   INT32_MAX, "t", "what chooses that share"},
    {"bf16",      '!', &given.bf16,      NULL,    0,   0,         "ieg", "2 bytes a number, not 4"},
    {"url",       's', &given.url, "https://huggingface.co/openai-community", 0, 0, "g",
     "where gpt2/resolve/main/model.safetensors is found"},
    {0}
};

/* One row, one command: called with the words that are not options. */
typedef struct {
    const char *name;
    char letter;                 /* in the table of options */
    int (*run)(int words, char **word);
    const char *usage;
} Command;

const Command prepare_commands[] = {
    {"text", 't', command_text,
     "./prepare text FILE... --out data/NAME        text to data/NAME_train.bin and ..._val.bin"},
    {"import", 'i', command_import,
     "./prepare import FILE|FOLDER --out M.bin      safetensors or llm.c's model to ours\n"
     "./prepare import vocab.json merges.txt --out T.bin          their vocabulary to ours"},
    {"export", 'e', command_export,
     "./prepare export M.bin --out FOLDER           ours to a folder for from_pretrained"},
    {"gpt2", 'g', command_gpt2,
     "./prepare gpt2 [small|medium|large|xl]        fetch a published model and import it"},
    {0}
};

#ifndef NO_MAIN_PREPARE

int main(int argc, char **argv)
{
    const Command *c = prepare_commands;
    while (c->name && (argc < 2 || strcmp(argv[1], c->name))) c++;
    if (!c->name) {
        int help = argc > 1 && !strcmp(argv[1], "--help");
        for (c = prepare_commands; c->name; c++) fprintf(help ? stdout : stderr, "%s\n", c->usage);
        fprintf(help ? stdout : stderr, "COMMAND --help lists the options.\n");
        return help ? 0 : 2;
    }
    int words = options_parse(prepare_options, c->letter, c->usage, argc - 2, argv + 2);
    int status = c->run(words, argv + 2);
    if (fflush(stdout) != 0 || ferror(stdout)) die("standard output cannot be written");
    return status;
}

#endif /* NO_MAIN_PREPARE */
#endif /* PREPARE_C */
