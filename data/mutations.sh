#!/bin/sh
# data/mutations.sh - does a test fail when the code is wrong?
#
# Each row below is a part of a test's name and a sed command that breaks one line of train_gpt.c.
# The script applies one row at a time to a copy of the sources, builds the tests in double
# precision, and runs those with that name. It prints "caught" if one of them fails, and "MISSED" if
# none does or if the command changed nothing. Its exit status is 0 only if every row was caught.
# Use: sh data/mutations.sh
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$(dirname "$0")/.." || exit 1
mkdir "$dir/data" && cp data/reference.bin data/mini_tokenizer.bin "$dir/data" && cp *_gpt.c tokenizer.c prepare.c "$dir"
run() { ${CC:-cc} -O1 -w -DDOUBLE -o "$dir/t" "$dir/test_gpt.c" -lm && timeout 300 "$dir/t" "$1"; }
run '' > "$dir/log" || { echo 'the tests fail before anything is broken'; exit 1; }
missed=0 count=0
while read -r name change; do
    sed "$change" train_gpt.c > "$dir/train_gpt.c"
    count=$((count + 1)) result=caught
    if cmp -s train_gpt.c "$dir/train_gpt.c" || run "$name" > "$dir/log" 2>&1 ||
       ! grep -q FAIL "$dir/log"; then result=MISSED missed=$((missed + 1)); fi
    echo "$result   $name   $change"
done << 'END'
embedding s/            token\[c\] += dx/            token[c] -= dx/
embedding s/place\[c\] += dx/place[c] += 2 * dx/
embedding s/(n % T - doc_start\[n\]) \* C;$/(n % T) * C;/
linear s/matmul(dx, C, NULL, 0, view(dy/matmul(dx, C, dx, C, view(dy/
linear s/matmul(dw, C, dw, C, tr/matmul(dw, C, NULL, 0, tr/
linear s/db\[o\] += dy/db[o] -= dy/
layernorm s/ g_mean += / g_mean -= /
layernorm s/gx_mean += /gx_mean -= /
layernorm s/dxn\[c\] += r/dxn[c] = r/
layernorm s/dw\[c\] += dyn\[c\] \* (/dw[c] -= dyn[c] * (/
layernorm s/db\[c\] += dyn/db[c] -= dyn/
gelu s/(1 + 3 \*/(1 - 3 */
gelu s/s \* (1 - s)/s * (1 + s)/
gelu s/(s + x\[i\]/(s - x[i]/
dropout s/p ? 0 : 1 \/ (1 - p)/p ? 0 : 1 \/ (1 + p)/
attention s/p_dp\[i\] = dot/p_dp[i] = -dot/
attention s/(p\[i\] \* scale - lse/(p[i] - lse/
attention s/(dp\[i\] - p_dp\[i\]) \* scale/(dp[i] - p_dp[i])/
attention s/ scores_dropout(dp, &n.*//
attention s/ scores_dropout(p, &n.*//
attention s/ scores_mask(p, &n);//
attention s/scores_dropout(dp, &n, drop, key, row/scores_dropout(dp, \&n, drop, key, row + 1/
attention s/matmul_serial(dk, ld, dk, ld/matmul_serial(dk, ld, NULL, 0/
attention s/for (int c = C; c < 3 \* C; c += C) memset/for (int c = C; c < C; c += C) memset/
softmax s/\* scale - even/* scale + even/
softmax s/x\[targets\[r\]\] -= /x[targets[r]] += /
head s/if (backward) memset(dx.*/;/
head s/matmul(dwte, C, dwte, C/matmul(dwte, C, NULL, 0/
model /^static void block_backward/,/gelu_forward/s/memcpy(dproj.*//
model s/    dropout(dproj, .*AT_FCPROJ));//
model /^static void block_backward/,/^}/s/gelu_forward(a.gelu.*//
model /^static void block_backward/,/^}/s/layernorm_forward(a.ln, a.ln2_mean.*//
model s/dropout(m->dres.*//
model s/    embedding_backward(m->g.*//
frozen s/l >= m->frozen/l > m->frozen/
AdamW s/c1 \* (gi - m/c1 * (gi + m/
AdamW s/(gi \* gi - v/(gi * gi + v/
AdamW s/(1 - a->lr \* a->decay)/(1 + a->lr * a->decay)/
AdamW s/wi < 0 ? -size : size/size/
norm s/norm > a.clip ?/norm < a.clip ?/
norm s/t->rows > 1 ? &a : &plain/\&a/
norm s/plain.decay = plain.l1 = 0/plain.decay = 0/
random s/(uint32_t)(n - i) < /(uint32_t)(n - i + (i < n - k)) < /
loader s/f->row >= f->rows/f->row == f->rows/
loader s/    if (limit > 0 \&\& limit < f.count) {/    if (0) {/
loader s/f.file_order\[chosen\[i\]\]/f.file_order[i]/
loader s/if (!available\[n\]) continue/if (available[n] != 1) continue/
loader s/for (int sum = longest + n;/for (int sum = longest + n + 1;/
loader s/int some = strcmp(part, "train") \&\& /int some = /
template s/encoded_add(&e, t, &pending, turn\[-1\].is_target);/encoded_add(\&e, t, \&pending, 0);/
template s/encoded_add(&e, t, &pending, 0), e.answer = e.size;/e.answer = e.size;/
template s/        if (answer) encoded_add(&e, t, &pending, turn->is_target);//
template s/tokens\[0\] = t->end_of_text/tokens[0] = 0/
template s/\*size <= longest || /*size <= longest + 1 || /
template s/if (\*size <= longest || .*) return/return/
template s/c->from + 2 >= c->count/c->from >= c->count/
template s/role, 0, memcpy(allocate(size + 1, 1), text, size), size}/role, 0, format("%s", text), strlen(text)}/
generation s/kept = full ? T \/ 2 : w/kept = full ? T \/ 2 - (T > 3) : w/
generation s/row + T - kept, kept/row, kept/
generation s/count < T ? count : T - T/count <= T ? count : T - T/
generation s/m->a.qkv += m->T \* 3 \* C)/m->a.qkv += m->T * C)/
sampling s/for (int v = 1; v < V; v++) argmax/for (int v = 1; v < V - 1; v++) argmax/
sampling s/a.id < b.id;/a.id > b.id;/
sampling s/if (k < V)$/if (0)/
sampling s/child + 1 < n \&\& more_likely/0 \&\& more_likely/
states s/    if (stored != sum)/    if (0)/
states s/if (p->data.fingerprint != data.fingerprint)/if (0)/
states s/checksum(f->tokens->fingerprint, &f->T, sizeof f->T)/f->tokens->fingerprint/
states s/t->fingerprint = checksum(t->fingerprint, t->loss_mask.*//
states s/t->fingerprint = checksum(t->fingerprint, ids.*//
END
echo "$count mutations, $missed missed"
[ "$missed" = 0 ]
