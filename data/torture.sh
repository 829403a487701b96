#!/bin/sh
# data/torture.sh - what the programs do when the machine fails them.
#
#   faults [NAME]   for each command, the n-th allocation, open, read, write, flush, sync, rename or
#                   close fails (data/faults.h), for every n until no call is left to fail
#   full            standard output is /dev/full, for each command
#   kills           100 times kill -9, at moments drawn at random; then the command once more
#   quick           faults of the tokenizer, every 7th, and full: a few seconds, for `make test`
#
# Each part prints its counts, and a line "FINDING ..." for each result that is wrong; the exit
# status is 1 if there was one. Use: sh data/torture.sh PART...; SEED=2 draws other moments.
cd "$(dirname "$0")/.." || exit 1
root=$PWD work=$(mktemp -d) kinds="allocate open read write flush sync rename close" step=1
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0:exitcode=99
export ASAN_OPTIONS=$ASAN_OPTIONS:allocator_may_return_null=1 FAULT_LOG="$work/log" FAULT_KIND= FAULT_AT=
: > "$work/findings"
finding() { echo "FINDING $*" | tee -a "$work/findings"; }

# The n-th file of a random sequence: a number from 0 to $1 - 1, which depends on SEED and $2 only.
random() { awk -v n="$1" -v s="${SEED:-1}" -v k="$2" 'BEGIN { srand(s * 1000 + k); rand(); print int(n * rand()) }'; }

# ---- commands: a name, what else it needs, the command line. All run in a copy of the folder `base`.
# `again` marks those that save on the way: they are judged by running them once more.
small="--model m --tokenizer t --context 16"
run="$small --data x --batch 2 --save-every 2 --eval-every 2 --show 1 --tokens 4 --warmup 0"
commands() { cat <<END
encode      once   tokenizer encode --tokenizer t text
decode      once   tokenizer decode --tokenizer t ids
info        once   tokenizer info --tokenizer t --file text
vocabulary  once   tokenizer train text --vocab 290 --out t2
train       again  train_gpt train $run --steps 4 --out o
resume      again  train_gpt train $run --steps 4 --out half --resume
lora        again  train_gpt train $run --steps 2 --lora 2 --out l
search      again  prepare search $run --steps 1 --lr 1e-3,2e-3 --out s
generate    once   train_gpt generate --model m --tokenizer t --tokens 4 --prompt a --jsonl
chat        once   train_gpt chat --model m --tokenizer t --tokens 4
text        once   prepare text text --out p --tokenizer t --seed 2
examples    once   prepare examples rows --out q --tokenizer t --model m --context 16 --seed 2
import      once   prepare import hf --out i
import_t    once   prepare import hf/vocab.json hf/merges.txt --out it
import_a    once   prepare import peft --out a2 --model m
export      once   prepare export m --tokenizer t --out e
export_bf16 once   prepare export m --tokenizer t --out e --bf16
merged      once   prepare export m --tokenizer t --adapter l/best.bin --out e
peft        once   prepare export l/best.bin --peft --out e2
gguf        once   prepare export m --tokenizer t --out g.gguf --type q8_0
gguf_f16    once   prepare export m --tokenizer t --out g.gguf --type f16
eval        once   prepare eval $small --data x --tuned o/best.bin --out o
compare     once   prepare compare $small --data x --tuned o/best.bin --out o --tokens 4
classify    once   prepare classify --model m --tokenizer t --labels a,b
explain     once   prepare explain ae --model m --tokenizer t --out o
report      once   prepare report o
END
}

# The folder `base`: inputs, and results of the same commands with other settings, which are "old".
base()
{
    [ -d "$work/base" ] && return
    mkdir "$work/base" && cd "$work/base" || exit 1
    awk 'BEGIN { srand(1); for (i = 0; i < 4000; i++) printf "%s", i % 400 == 399 ? "\n<|endoftext|>\n" : substr("aeinorst ,", 1 + 10 * rand(), 1) }' > text
    awk 'BEGIN { for (i = 0; i < 12; i++) printf "{\"prompt\":\"%da\",\"completion\":\"%s\"}\n", i, i % 2 ? "a" : "b" }' > rows
    {
        "$bin/tokenizer" train text --vocab 300 --out t; "$bin/tokenizer" train text --vocab 280 --out t2
        "$bin/tokenizer" encode --tokenizer t rows > ids
        "$bin/prepare" examples rows --out x --tokenizer t --context 16 --val 0.3
        "$bin/train_gpt" train --data x --tokenizer t --context 16 --layers 1 --heads 2 --channels 8 --steps 1 --out n --show 0
        mv n/model.bin m
        "$bin/train_gpt" train $run --steps 4 --out half & sleep 0.01; wait
        for o in o l s; do "$bin/train_gpt" train $run --steps 2 --lr 0.01 --out $o; done
        rm -r l; "$bin/train_gpt" train $run --steps 2 --lora 2 --lr 0.01 --out l
        "$bin/prepare" text text --out p --tokenizer t; "$bin/prepare" examples rows --out q --tokenizer t
        "$bin/prepare" export n/best.bin --tokenizer t2 --out e; "$bin/prepare" export m --tokenizer t --out hf
        "$bin/prepare" export l/best.bin --peft --out peft; "$bin/prepare" export l/best.bin --peft --out e2
        "$bin/prepare" import hf --out i; "$bin/prepare" import hf/vocab.json hf/merges.txt --out it
        "$bin/prepare" export o/model.bin --tokenizer t --out g.gguf; "$bin/prepare" import peft --out a2 --model m
    } > "$work/base.log" 2>&1
    cd "$root" || exit 1
}
