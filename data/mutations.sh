#!/bin/sh
# data/mutations.sh - does a test fail when the code is wrong?
#
# Each row below breaks one line of a source file by a sed command. The script applies one row at a
# time to a copy of the sources, builds the tests, and runs those whose name contains a word. It
# prints "caught" if one of them fails, and "MISSED" if none does, if the command changes nothing, or
# if the result does not compile. Its exit status is 0 only if every row was caught.
#
# A row: source file, d (tests in double), f (in float) or p (in float, with the programs), word, sed.
# With F or K instead, data/torture.sh gives faults or kill -9 to the command that the word names.
# Use: sh data/mutations.sh [WORD]      only rows that contain WORD
cd "$(dirname "$0")/.." || exit 1
build() { ${CC:-cc} -O1 -w "$@" -lm; }

# One row, in a folder of its own.
mutation()
{
    dir=$(mktemp -d)
    cp -r ./*.c Makefile README.md doc "$dir" && ln -s "$PWD/data" "$dir"
    sed "$4" "$1" > "$dir/$1"
    here=$PWD result=MISSED
    (
        cd "$dir" && ! cmp -s "$1" "$here/$1" || exit 1
        case $2 in p|K)
            for program in train_gpt tokenizer prepare; do
                build -o $program $program.c || exit 1
            done
        esac
        case $2 in
        F) NAME=$3 DENSE=30 sh data/torture.sh faults > log 2>&1; grep -q '^FINDING' log; exit ;;
        K) NAME=$3 KILLS=10 sh data/torture.sh kills > log 2>&1; grep -q '^FINDING' log; exit ;;
        esac
        if [ "$2" = d ]; then build -DDOUBLE -o test_gpt test_gpt.c || exit 1
        else
            build -o test_gpt test_gpt.c || exit 1
            printf '#!/bin/sh\necho 0 passed, 0 failed\n' > test_gpt_double
            chmod +x test_gpt_double
        fi
        timeout 300 ./test_gpt "$3" > log 2>&1
        grep -q '^FAIL' log
    ) && result=caught
    rm -rf "$dir"
    echo "$result   $1   $3   $4"
}
if [ "$1" = --row ]; then
    mutation "$2" "$3" "$4" "$5"
    exit
fi

rows() { sed -n '/^# ROWS$/,$p' "$0" | sed '1d;s/^# //' | grep -e "${1:-.}"; }
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
log=$(mktemp) && trap 'rm -f "$log"' EXIT
rows "$1" | while read -r file kind word change; do
    printf '%s\0%s\0%s\0%s\0' "$file" "$kind" "$word" "$change"
done | xargs -0 -n 4 -P "$cores" sh "$0" --row | tee "$log"
count=$(grep -c . "$log") missed=$(grep -c MISSED "$log")
echo "$count mutations, $missed missed"
[ "$missed" = 0 ]
exit $?

# ROWS
# train_gpt.c d layernorm s/ g_mean += / g_mean -= /
# train_gpt.c d layernorm s/gx_mean += /gx_mean -= /
# train_gpt.c d layernorm s/dxn\[c\] += r/dxn[c] = r/
# train_gpt.c d layernorm s/dw\[c\] += dyn\[c\] \* (/dw[c] -= dyn[c] * (/
# train_gpt.c d gelu s/(1 + 3 \*/(1 - 3 */
# train_gpt.c d gelu s/s \* (1 - s)/s * (1 + s)/
# train_gpt.c d gelu s/(s + x\[i\]/(s - x[i]/
# train_gpt.c d dropout s/p ? 0 : 1 \/ (1 - p)/p ? 0 : 1 \/ (1 + p)/
# train_gpt.c d attention s/p_dp\[i\] = dot/p_dp[i] = -dot/
# train_gpt.c d attention s/(p\[i\] \* scale - lse/(p[i] - lse/
# train_gpt.c d attention s/(dp\[i\] - p_dp\[i\]) \* scale/(dp[i] - p_dp[i])/
# train_gpt.c d model s/    dropout(dproj, .*AT_FCPROJ));//
# train_gpt.c d model s/dropout(m->dres.*//
# train_gpt.c d model s/    embedding_backward(m->g.*//
# train_gpt.c d frozen s/l >= m->frozen/l > m->frozen/
# train_gpt.c d PyTorch s/c1 \* (gi - m/c1 * (gi + m/
# train_gpt.c d PyTorch s/(gi \* gi - v/(gi * gi + v/
# train_gpt.c d PyTorch s/(1 - a->lr \* a->decay)/(1 + a->lr * a->decay)/
# train_gpt.c d norm s/wi < 0 ? -size : size/size/
# train_gpt.c d norm s/norm > a.clip ?/norm < a.clip ?/
# train_gpt.c d norm s/t->rows > 1 || t->first_value == ADAPTER_A ? &a : &plain/\&a/
# train_gpt.c d norm s/plain.decay = plain.l1 = 0/plain.decay = 0/
# train_gpt.c d random s/(uint32_t)(n - i) < /(uint32_t)(n - i + (i < n - k)) < /
# train_gpt.c f loader s/f->row >= f->rows/f->row == f->rows/
# train_gpt.c d loader s/    if (limit > 0 \&\& limit < f.count) {/    if (0) {/
# train_gpt.c d loader s/f.file_order\[chosen\[i\]\]/f.file_order[i]/
# train_gpt.c d loader s/if (!available\[n\]) continue/if (available[n] != 1) continue/
# train_gpt.c d loader s/for (int sum = longest + n;/for (int sum = longest + n + 1;/
# train_gpt.c d loader s/some = held_out \&\& tokens_exist/some = tokens_exist/
# train_gpt.c d template s/encoded_add(&e, t, &pending, turn\[-1\].is_target);/encoded_add(\&e, t, \&pending, 0);/
# train_gpt.c d template s/encoded_add(&e, t, &pending, 0), e.answer = e.size;/e.answer = e.size;/
# train_gpt.c d template s/        if (answer) encoded_add(&e, t, &pending, turn->is_target);//
# train_gpt.c d template s/tokens\[0\] = t->end_of_text/tokens[0] = 0/
# train_gpt.c d template s/\*size <= longest || /*size <= longest + 1 || /
# train_gpt.c d template s/if (\*size <= longest || .*) return/return/
# train_gpt.c d template s/c->from + 2 >= c->count/c->from >= c->count/
# train_gpt.c d template s/role, 0, memcpy(allocate(size + 1, 1), text, size), size}/role, 0, format("%s", text), strlen(text)}/
# train_gpt.c d generation s/kept = full ? T \/ 2 : w/kept = full ? T \/ 2 - (T > 3) : w/
# train_gpt.c d generation s/row + T - kept, kept/row, kept/
# train_gpt.c d generation s/count < T ? count : T - T/count <= T ? count : T - T/
# train_gpt.c d generation s/m->a.qkv += m->T \* 3 \* C)/m->a.qkv += m->T * C)/
# train_gpt.c d sampling s/for (int v = 1; v < V; v++) argmax/for (int v = 1; v < V - 1; v++) argmax/
# train_gpt.c d sampling s/a.id < b.id;/a.id > b.id;/
# train_gpt.c d sampling s/if (k < V)$/if (0)/
# train_gpt.c d sampling s/child + 1 < n \&\& more_likely/0 \&\& more_likely/
# train_gpt.c d states s/    if (stored != sum)/    if (0)/
# train_gpt.c d states s/t->fingerprint = checksum(t->fingerprint, t->loss_mask.*//
# train_gpt.c d states s/t->fingerprint = checksum(t->fingerprint, ids.*//
# train_gpt.c d attention s/ scores_mask(p, n, 0);//
# train_gpt.c d attention s/accumulate(dqkv + n->k/assign(dqkv + n->k/
# train_gpt.c d attention s/accumulate(dqkv + n->v/assign(dqkv + n->v/
# train_gpt.c d attention s/    memset(dqkv, 0, .*//
# train_gpt.c d model /^void block_backward/,/gelu_forward/s/memcpy(dproj.*//
# train_gpt.c d model /^void block_backward/,/^}/s/gelu_forward(a.gelu.*//
# train_gpt.c d model /^void block_backward/,/^}/s/layernorm_forward(a.ln, a.ln2_stats.*//
# train_gpt.c d model s/bias_backward(g.qkv_b, dqkv, N, 3 \* C);//
# train_gpt.c d model s/bias_backward(g.fc_b.*//
# train_gpt.c d product s/pack_edge(to + (size_t)i \* depth, view/pack_edge(to, view/
# train_gpt.c d product s/c.start = c.p, c.start_rs = c.rs; .*//
# train_gpt.c d product s/return rest + sum\[0\]\[0\]/return sum[0][0]/
# train_gpt.c d product s/(size_t)max_int(i - in_place, 0) \* kc/(size_t)i * kc/
# train_gpt.c p best s/loss < r->p.best_loss;/loss > r->p.best_loss;/
# train_gpt.c p run s/r->p.waited >= opt.patience/r->p.waited > opt.patience/
# train_gpt.c p resumed s/step > r->p.step) continue/step > r->p.step + 1) continue/
# train_gpt.c p noise s/opt.lora_dropout, run_key}/opt.lora_dropout, 0}/
# train_gpt.c d embedding s/ token\[c\] += dxn/ token[c] -= dxn/
# train_gpt.c d embedding s/position\[c\] += dxn\[c\]/position[c] += 2 * dxn[c]/
# train_gpt.c d linear s/matmul(assign(dx, C)/matmul(accumulate(dx, C)/
# train_gpt.c d linear s/matmul(accumulate(dw, C)/matmul(assign(dw, C)/
# train_gpt.c d linear s/db\[c\] += dy/db[c] -= dy/
# train_gpt.c d attention s/ scores_dropout(dp, n.*//
# train_gpt.c d attention s/ scores_dropout(p, n.*//
# train_gpt.c d causality s/int before = j - (n->keys - n->count)/int before = j - 1 - (n->keys - n->count)/
# train_gpt.c d causality s/n->doc_start\[i\] > key/n->doc_start[i] > key + 1/
# train_gpt.c d cache s/row + (a->past + t0) \* ld/row + t0 * ld/
# train_gpt.c d head s/\* scale - smooth/* scale + smooth/
# train_gpt.c d head s/\*target -= /*target += /
# train_gpt.c d head s/if (h->dx) memset(h->dx.*//
# train_gpt.c d head s/matmul(accumulate(h->dwte, C)/matmul(assign(h->dwte, C)/
# train_gpt.c d product s/j < rows ? x.p\[j \* x.rs + k \* x.cs\] : 0/x.p[j * x.rs]/
# train_gpt.c d product s/j < rows ? x.p\[j \* x.rs + k \* x.cs\] : 0/j < rows - 1 ? x.p[j * x.rs + k * x.cs] : 0/
# train_gpt.c d product s/memcpy(to + (size_t)i \* depth + k \* MR/memcpy(to + (size_t)i * depth/
# train_gpt.c d product s/(loose_vector \*)&x.p\[j + k \* x.cs\]/(loose_vector *)\&x.p[k * x.cs]/
# train_gpt.c d product s/square\[c \* VL + r\] = from\[r \* x.rs + c\]/square[r * VL + c] = from[r * x.rs + c]/
# train_gpt.c d product s/pack_edge(to + k \* width, view_from(x, 0, k)/pack_edge(to + k * width, view_from(x, 0, 0)/
# train_gpt.c d product s/if (c.start) sum\[i\]\[j\] += .*//
# train_gpt.c d product s/microkernel(to, a, b, depth, 2, 0)/microkernel(to, a, b, depth, 1, 0)/
# train_gpt.c d product s/whole = rows == MR \&\& columns/whole = columns/
# train_gpt.c d product s/ai = a.p + i \* a.rs/ai = a.p/
# train_gpt.c d product s/rest += load_one/rest -= load_one/
# train_gpt.c f model: s/scale = t->first_value == RESIDUAL ? .* : 0.02/scale = 0.02/
# train_gpt.c f model: s/size_t count = i == 0 ? (size_t)m->c.V/size_t count = i == 0 ? (size_t)m->c.Vp/
# train_gpt.c f model: s/random_key(r->dropout.key, step - 1)/random_key(r->dropout.key, 0)/
# train_gpt.c f model: s/d.key = random_key(key, 2 \* i)/d.key = random_key(key, 0)/
# train_gpt.c f model: s/(uint64_t)l \* SITES + site/site/
# train_gpt.c f model: s/if (count <= (SIZE_MAX .*sizeof(real)) raw/raw/
# train_gpt.c d model s/    bias_backward(g.fc_b.*//
# prepare.c p gains s/return ratio(&g->b, rows, n) - ratio(&g->a, rows, n)/return ratio(\&g->a, rows, n) - ratio(\&g->b, rows, n)/
# prepare.c p gains s/s.loss\[2 \* i + 1\] - s.loss\[2 \* i\]/s.loss[2 * i] - s.loss[2 * i + 1]/
# prepare.c p report s/strchr("&<>/strchr("\&>/
# prepare.c f classification s/draws\[DRAWS \/ 40\]/draws[DRAWS \/ 4]/
# prepare.c f near s/similarity < 0.8) return/similarity < 0.95) return/
# prepare.c f leakage s/if (size\[group_of(x, kept\[order\[k\]\])\] > 1).*//
# prepare.c f leakage s/if (e.dropped || e.set ||/if (e.dropped ||/
# prepare.c f published s/rank < best\[p\]/rank > best[p]/
# prepare.c f published s/2 \* values\[i\].count <= rows/8 * values[i].count <= rows/
# prepare.c f published s/== count \&\& count > 1 \&\& !c.error/== count/
# prepare.c f published s/s\[i + high\] \* 256u + s\[i + !high\]/s[i + !high] * 256u + s[i + high]/
# prepare.c f published s/c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00), i += 2/i += 2/
# prepare.c f published s/if (!as_is) trim(\&text, \&size);/trim(\&text, \&size);/
# prepare.c f finding s/given ? (int)weight->number : target/target/
# prepare.c f refused s/->value > 1)/->value > 0)/
# prepare.c f refused s/if (!json \&\& \*open == /if (0 == /
# prepare.c f published s/array = v, arrays++/arrays++/
# prepare.c f refused s/if (listed != columns || /if (/
# prepare.c p set s/        else unlink(t->path);//
# prepare.c p set s/e->set > first->set ? LEAKED/0 ? LEAKED/
# prepare.c p set s/kind == 2 ? LEAKED_NEAR/0 ? LEAKED_NEAR/
# prepare.c p set s/dropped || x->row\[i\].set == TEST) continue/dropped) continue/
# prepare.c f contradictions s/if (other\[first\]) finding_add/if (0) finding_add/
# prepare.c p safetensors s/if (x\[i\] != m->w.wte\[i\])/if (0)/
# tokenizer.c f tokenizer s/a->rank == b->rank \&\& a->tie < b->tie/a->rank == b->rank \&\& a->tie > b->tie/
# tokenizer.c f tokenizer s/if (after != SPACE) class/if (0) class/
# tokenizer.c f tokenizer s/count, l->pair\[k\].ids, (int64_t)k/count, -l->pair[k].ids, (int64_t)k/
# tokenizer.c f tokenizer s/UINT64_C(1) << hash % 64/UINT64_C(1) << hash % 63/
# tokenizer.c f tokenizer s/if (before > 0) occurrence_count(l, i - before, -1);//
# tokenizer.c f tokenizer s/if (count == -best.rank \&\& count > 0)/if (count > 0)/
# tokenizer.c f JSON s/0x10000 + ((c - 0xD800) << 10)/((c - 0xD800) << 10)/
# tokenizer.c p options s/whole ? fmin(o->max, INT_MAX) : o->max/o->max/
# tokenizer.c f writer s/if (fd >= 0) fsync(fd), close(fd);/if (fd >= 0) close(fd);/
# prepare.c f world s/size >> 13 & 1/0/
# prepare.c f world s/u.f += 0.5f, u.i -= 0x3f000000/u.i = 0/
# prepare.c p world s/most \/ 127/most \/ 128/
# prepare.c p world s/id == t->end_of_text ? 3 : 1/1/
# prepare.c p world s/(at + ALIGNMENT - 1) \/ ALIGNMENT \* ALIGNMENT/at/
# prepare.c p world s/if (b != a) text_add(&text, " ", 1), /if (b != a) /
# prepare.c p world s/(b.scale \& 0x7fff) == 0x7c00/0/
# prepare.c p world s/    m->c.V = m->stored_V;.*//
# prepare.c p world s/"gelu_pytorch_tanh"/"gelu"/
# train_gpt.c p world s/    m->c.V = t->count;//
# train_gpt.c p world s/m->stored_V, c.L/c.V, c.L/
# train_gpt.c p world s/tokens->examples \&\& tokens->ids\[0\] != end_of_text/0/
# train_gpt.c d adapters /^void lora_backward/,/^}/s/    dropout(l.dropped.*//
# train_gpt.c d adapters s/matmul(accumulate(l.dB, l.rank)/matmul(assign(l.dB, l.rank)/
# train_gpt.c d adapters s/matmul(accumulate(l.dA, C)/matmul(assign(l.dA, C)/
# train_gpt.c d adapters /^void lora_backward/,/^}/s/x = lora_h(x, l, N, C);/lora_h(x, l, N, C);/
# train_gpt.c d adapters /^void lora_backward/,/^}/s/l.h\[i\] \*= l.scale/l.h[i] *= 1/
# train_gpt.c d adapters s/    residual_forward(dx, dx, l.dropped.*//
# train_gpt.c d adapters s/lora_backward(dproj, dqkv, a.ln.*//
# train_gpt.c d adapters s/lora_backward(datt, dproj, a.att.*//
# train_gpt.c d adapters s/lora_backward(dproj, dwide, a.ln.*//
# train_gpt.c d adapters s/lora_backward(dwide, dproj, a.gelu.*//
# train_gpt.c d adapters s/view(w.tensor\[i + 1\], A->rows), view/view(m->w.tensor[i + 1], A->rows), view/
# train_gpt.c d cache s/(size_t)C \* (at->T == 1 ? at->rows : 1)/(size_t)C/
# train_gpt.c d recompute s/if (m->recompute \&\& l + 1 < m->c.L).*//
# train_gpt.c f moments s/(u.i + (random \& 0xffff)) >> 16/(u.i + 0x7fff) >> 16/
# train_gpt.c f moments s/b.v\[j\] = bf16_stochastic(v\[j\], random >> 16)/b.v[j] = bf16_from((float)v[j])/
# train_gpt.c p damaged s/if (a.base != .*/if (0)/
# train_gpt.c p damaged s/a.on < 1 || a.on >> ADAPTED/a.on < 1/
# train_gpt.c p resumed s/\*piece = (Piece){(char \*)m->moments\[k\]/*piece = (Piece){(char *)m->moments[0]/
# prepare.c p PEFT s/a.on |= (weights_find(&w, first) != NULL) << i;/a.on |= 1 << i \& 7;/
# prepare.c f explain: s/ \/ (real)sqrt(HS);$/ \/ HS;/
# prepare.c f explain: s/memset(columns + (size_t)c \* C, 0/memset(columns, 0/
# prepare.c f explain: s/layernorm_forward(y, stats, x, m->w.lnf_w, m->w.lnf_b, 1, C)/memcpy(y, x, C * sizeof *y)/
# prepare.c f explain: s|\*columns = w + i % NH \* HS|*columns = w|
# prepare.c p explain: s/o->without\[i\], change/o->p[o->answer], change/
# prepare.c p explain: s/    html_text(p, text, strlen(text));/text_print(p, "%s", text);/
# prepare.c f mentioned s/found == not/found != not/
# prepare.c f mentioned s/before == NUMBER \&\& strchr/before == LETTER \&\& strchr/
# prepare.c f counted s/p\[truth\[row\[r\]\]\] -= 1/p[truth[row[r]]] -= 2/
# prepare.c f counted s/w->value\[i\] = log1p(w->value\[i\])/w->value[i] += 1/
# prepare.c p figures s/right\[i\] = !\*wrong/right[i] = 1/
# prepare.c p limit: s/e->n, random_key(opt.seed, 2))/e->n, random_key(0, 2))/
# prepare.c p figures s/part = opt.test ? "test" : "val"/part = "val"/
# train_gpt.c p figures s/c.T = max_int(c.T, min_int(m->c.T, q\[i\].count + q\[i\].tokens))/c.T = max_int(c.T, q[i].count)/
# doc/exercises/grader.c f exercises s/!(fabs(x\[i\] - expected\[i\]) <= 1e-9 \* scale)/0/
# doc/exercises/grader.c f exercises s/        memcpy(a->before, a->p, (size_t)a->count.*/;/
# doc/exercises/grader.c f exercises s/page, PROT_NONE/page, PROT_READ | PROT_WRITE/
# doc/exercises/grader.c f exercises s/(a->kind == 'i' && wrong < 0)/a->kind == 'i'/
# doc/exercises/grader.c f exercises s/as it was.", 1, 0/as it was.", 1, 1/
# train_gpt.c f bf16 s/u.i + 0x7fff + ((u.i >> 16) & 1)/u.i + 0x8000/
# train_gpt.c f bf16 s/return PAIR == 2 ? u.f : bf16_rounded(x)/return PAIR == 2 ? u.f : x/
# train_gpt.c f bf16 s/k \* PAIR \* x.cs, 1, x.cs/k * PAIR, 1, x.cs/
# train_gpt.c f bf16 s/aik \* element(bk, 0, j, 1)/aik * element(bk, 0, j, 0)/
# train_gpt.c f bf16 s/dot_of(ai, b.h + j \* b.cs, depth, AS_ROUNDED/dot_of(ai, b.h + j * b.cs, depth, AS_REAL/
# train_gpt.c f bf16 s/view_bf16(m->half\[i\] + at, columns)/view_bf16(m->half[i], columns)/
# train_gpt.c f bf16 s/m->half\[t\] ? m->half\[t\]\[at\]/m->half[t] ? m->half[t][0]/
# train_gpt.c p bf16 s/^    bf16_products = 1;//
# tokenizer.c p trust s/if (fd >= 0 \&\& flock(/if (0 \&\& flock(/
# tokenizer.c p trust s/    if (last_attempts) last_attempts();//
# tokenizer.c p trust s/    for (struct dirent \*e; dir \&\&/    for (struct dirent *e; 0 \&\&/
# tokenizer.c p trust s/if (bytes > free_bytes)/if (0)/
# train_gpt.c p trust s/disk_check(opt.out, 2 \* (state/disk_check(opt.out, (state/
# train_gpt.c p trust s/if (\*differ \&\& !changed)/if (0)/
# train_gpt.c p trust s/if (other \&\& other != id)/if (0)/
# train_gpt.c p trust s/file_checksum(opt.tokenizer), /(uint64_t)0, /
# train_gpt.c p trust s/opt.model ? file_checksum(opt.model) : 0/(uint64_t)0/
# train_gpt.c p trust s/val->count, val->fingerprint,/val->count, (uint64_t)0,/
# train_gpt.c p trust s/r->p.best_step == r->p.step) run_save/0) run_save/
# train_gpt.c p trust s/file_checksum(best) != r->p.best_sum/0/
# train_gpt.c p trust s/    if (!targets)/    if (0)/
# train_gpt.c p trust s/= %.15g/= %g/
# prepare.c p search s/trials_add(s, words, i + 1, /trials_add(s, words, s->words, /
# prepare.c p headers s/if (s->from != at)/if (0)/
# prepare.c p trust s/if (!same) unlink(format("%s\/run.txt", t->folder)), /if (!same) /
# prepare.c p trust s/        t->id = id | 1; /        t->id = random_key(id, t->count) | 1; /
# tokenizer.c F vocabulary s/ || fflush(f) || / || (fflush(f), 0) || /
# tokenizer.c F vocabulary s/ || fsync(fileno(f)) / || (fsync(fileno(f)), 0) /
# tokenizer.c F vocabulary s/ || fsync(fileno(f)) / /
# tokenizer.c F vocabulary s/(w->file = NULL, fclose(f))/(w->file = NULL, fclose(f), 0)/
# tokenizer.c F vocabulary s/        unlink(w->temporary);//
# tokenizer.c F vocabulary s/%s.%ld.%d.partial", path, (long)getpid(), n)/%s", path)/;s/O_CREAT | O_EXCL/O_CREAT | O_TRUNC/
# tokenizer.c F encode s/if (fflush(stdout) != 0 || ferror(stdout))/if (0)/
# tokenizer.c F text s/if (last->next \&\& unlink/if (0 \&\& unlink/
# tokenizer.c K train s/%s.%ld.%d.partial", path, (long)getpid(), n)/%s", path)/;s/O_CREAT | O_EXCL/O_CREAT | O_TRUNC/
# tokenizer.c K examples s/%s.%ld.%d.partial", path, (long)getpid(), n)/%s", path)/;s/O_CREAT | O_EXCL/O_CREAT | O_TRUNC/
# tokenizer.c p trust s/LOCK_EX | LOCK_NB) != 0/LOCK_EX | LOCK_NB) + close(fd) != 0/
# train_gpt.c F search s/ \&\& !r->failed//
# train_gpt.c p trust s/ \&\& !r->failed//
# train_gpt.c F train s/if (ferror(r->log) || fclose(r->log))/if (0)/
# train_gpt.c K train s/    loader_seek(&r->loader.*//
# train_gpt.c K train s/ || step > r->p.step) continue/) continue/
# train_gpt.c K train s/for (int i = 0; i < 6; i++) remove_partial/if (0) for (int i = 0; i < 6; i++) remove_partial/
# prepare.c K search s/if (same \&\& trial_read(t)) return;/if (same) return;/
# train_gpt.c d labels s/n->key0 + j - past : -1/max_int(0, n->key0 + j - past) : -1/
# train_gpt.c d labels s/doc_start \&\& !a->past ? doc_start\[0\]/doc_start ? doc_start[0]/
# prepare.c d labels s/b.doc_start\[b.T\] = start;/b.doc_start[b.T] = 0;/
# prepare.c d labels s/ || label->closed;/ || 1;/
# train_gpt.c f collapses s/rate < r->fastest \/ 3 ?/rate < r->fastest ?/
# train_gpt.c f collapses s/if (r->slow == 10) return 0;//
