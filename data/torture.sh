#!/bin/sh
# data/torture.sh - what the programs do when the machine fails them.
#
#   faults [NAME]   for each command, the n-th allocation, open, read, write, flush, sync, rename or
#                   close fails (data/faults.h): every n to DENSE (100), then at most n / DENSE
#                   further, until no call is left to fail
#   full            standard output is /dev/full, for each command
#   kills [NAME]    100 times kill -9, at moments drawn at random; then the command once more
#   quick           faults of the tokenizer, every 7th, and full: a few seconds, for `make test`
#
# Each part prints its counts, and a line "FINDING ..." for each result that is wrong; the exit
# status is 1 if there was one. Use: sh data/torture.sh PART...; SEED=2 draws other moments.
cd "$(dirname "$0")/.." || exit 1
root=$PWD work=$(mktemp -d) kinds="allocate open read write flush sync rename close"
step=${STEP:-1} dense=${DENSE:-100} found=${FOUND:-$work/found} base=${BASE:-$work/base}
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0:exitcode=99
export ASAN_OPTIONS=$ASAN_OPTIONS:allocator_may_return_null=1 FAULT_LOG="$work/log" FAULT_KIND= FAULT_AT=
finding() { echo "FINDING $*" | tee -a "$found"; }

# Draw $2 of a random sequence: a number from 0 to $1 - 1, which depends on SEED and $2 only.
random() { awk -v n="$1" -v s="${SEED:-1}" -v k="$2" 'BEGIN { srand(s * 1000 + k); rand(); print int(n * rand()) }'; }

# ---- commands: a name, what else it needs, the command line. All run in a copy of the folder `base`.
# `again` marks those that save on the way: they are judged by running them once more.
small="--model m --tokenizer t --context 16"
run="$small --data x --batch 2 --save-every 2 --eval-every 2 --show 1 --warmup 0"
commands() { cat <<END
encode      once   tokenizer encode --tokenizer t rows
decode      once   tokenizer decode --tokenizer t ids
info        once   tokenizer info --tokenizer t --file text
vocabulary  once   tokenizer train text --vocab 290 --out t2
train       again  train_gpt train $run --steps 4 --out new
resume      again  train_gpt train $run --steps 4 --out half --resume --changed
lora        again  train_gpt train $run --steps 2 --lora 2 --out newl
search      again  prepare search $run --steps 1 --lr 1e-3,2e-3 --out news
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
peft        once   prepare export m --adapter l/best.bin --peft --out e2
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
    [ -d "$base" ] && return
    mkdir "$base" && cd "$base" || exit 1
    awk 'BEGIN { srand(1); for (i = 0; i < 4000; i++) printf "%s", i % 400 == 399 ? "\n<|endoftext|>\n" : substr("aeinorst ,", 1 + 10 * rand(), 1) }' > text
    awk 'BEGIN { for (i = 0; i < 12; i++) printf "{\"prompt\":\"%da\",\"completion\":\"%s\"}\n", i, i % 2 ? "a" : "b" }' > rows
    {
        "$bin/tokenizer" train text --vocab 300 --out t; "$bin/tokenizer" train text --vocab 280 --out t2
        "$bin/tokenizer" encode --tokenizer t rows | cut -c 1-200 > ids
        "$bin/prepare" examples rows --out x --tokenizer t --context 16 --val 0.3
        "$bin/train_gpt" train --data x --tokenizer t --context 16 --layers 1 --heads 2 --channels 8 --steps 1 --out n --show 0
        mv n/model.bin m
        "$bin/train_gpt" train $run --steps 2 --out half
        "$bin/train_gpt" train $run --steps 2 --lr 0.01 --out o; "$bin/train_gpt" train $run --steps 2 --lora 2 --lr 0.01 --out l
        "$bin/prepare" text text --out p --tokenizer t; "$bin/prepare" examples rows --out q --tokenizer t
        "$bin/prepare" export n/best.bin --tokenizer t2 --out e; "$bin/prepare" export m --tokenizer t --out hf
        "$bin/prepare" export m --adapter l/best.bin --peft --out peft; "$bin/prepare" export m --adapter l/best.bin --peft --out e2
        "$bin/prepare" import hf --out i; "$bin/prepare" import hf/vocab.json hf/merges.txt --out it
        "$bin/prepare" export o/model.bin --tokenizer t --out g.gguf; "$bin/prepare" import peft --out a2 --model m
    } > "$work/base.log" 2>&1
    cd "$root" || exit 1
}

# Run a command line in the current folder, with a program of $bin; what it says goes to $dir.out
# and $dir.err. Returns its exit status.
in_folder()
{
    program=$1; shift
    printf 'a\n' | timeout 300 "$bin/$program" "$@" > "$dir.out" 2> "$dir.err"
}

# Are the files (and what was said) of two runs the same? Those named in "volatile" hold seconds.
same_run()
{
    cmp -s "$1.out" "$2.out" || grep -q '^OUT$' "$work/volatile" || return 1
    same_files "$1" "$2"
}
same_files()
{
    for f in $changed; do
        [ -f "$1/$f" ] || return 1
        cmp -s "$1/$f" "$2/$f" || grep -qx "$f" "$work/volatile" || return 1
    done
}

models_same()
{
    for f in $changed; do case $f in */best.bin|*/model.bin) cmp -s "$1/$f" "$2/$f" || return 1 ;; esac; done
}
logs_same()
{
    for f in $changed; do case $f in */log.csv) same_log "$1/$f" "$2/$f" || return 1 ;; esac; done
}
# Are two files log.csv the same, except for times?
same_log()
{
    cut -d, -f 1-7 "$1" > "$work/log.csv"
    cut -d, -f 1-7 "$2" | cmp -s - "$work/log.csv"
}

# Is the folder $dir as a failed command may leave it: each file that the command writes is the old
# or the new one; one of several files may be missing, and old ones stand beside new ones only if one is?
whole()
{
    old=0 new=0 missing=0 other= files=0
    for f in $changed; do
        files=$((files + 1))
        if [ ! -f "$dir/$f" ]; then missing=1
        elif cmp -s "$dir/$f" "$base/$f"; then old=1
        elif cmp -s "$dir/$f" "$work/clean/$f"; then new=1
        else grep -qx "$f" "$work/volatile" || other="$other $f"; fi
    done
    [ -z "$other" ] || { echo "damaged:$other"; return 1; }
    [ $missing = 0 ] || [ $files -gt 1 ] || { echo "the old file is lost"; return 1; }
    [ $((old + new - missing)) -lt 2 ] || { echo "old files beside new ones"; return 1; }
}

# Run a command twice without a fault: "changed" are the files that it writes, "volatile" those that
# differ from run to run.
reference()
{
    for dir in "$work/clean" "$work/second"; do
        rm -rf "$dir" && cp -r "$base" "$dir" && cd "$dir" || exit 1
        sleep 0.02; in_folder "$@" || finding "$name: status $? without a fault: $(head -1 "$dir.err")"
    done
    changed=$(find . -type f ! -name .lock ! -name '*.partial' | sort | while read -r f; do
        cmp -s "$f" "$base/$f" || echo "$f"; done)
    {
        cmp -s "$work/clean.out" "$work/second.out" && ! grep -q ' MB/s$' "$work/clean.out" || echo OUT
        for f in $changed; do cmp -s "$work/clean/$f" "$f" || echo "$f"; done
    } > "$work/volatile"
}

# Judge the run of $dir, which ended with status $1 after the fault in $FAULT_LOG.
judge()
{
    what="$name, $(cat "$FAULT_LOG")"
    [ -z "$(find "$dir" -name '*.partial')" ] || finding "$what: a temporary file is left"
    if [ "$1" = 0 ]; then
        if [ "$mode" = again ]; then models_same "$dir" "$work/clean" && logs_same "$dir" "$work/clean"
        else same_run "$dir" "$work/clean"; fi
        if [ $? = 0 ]; then sed "s/^/$name /" "$FAULT_LOG" >> "$work/harmless"
        else finding "$what: status 0, but another result"; fi
        return
    fi
    [ "$1" -le 2 ] || finding "$what: status $1, $(grep -m1 -E 'ERROR|#[0-4] .*\.c' "$dir.err")"
    [ "$(grep -c '^error: ' "$dir.err")" = 1 ] || finding "$what: status $1, says: $(head -3 "$dir.err")"
    if [ "$mode" = once ]; then problem=$(whole) || finding "$what: $problem"; return; fi
    shift
    [ "$name" = search ] || set -- "$@" --resume
    FAULT_KIND=''
    in_folder "$@" || finding "$what: once more, status $?: $(head -1 "$dir.err")"
    FAULT_KIND=$kind
    models_same "$dir" "$work/clean" || finding "$what: once more, other models"
}

# All faults of the command $1.
faults_of()
{
    while read -r name mode line; do [ "$name" != "$1" ] || break; done < "$base.commands"
    # shellcheck disable=SC2086
    set -- $line
    start=$(date +%s) all=0 counts=
    : > "$work/harmless"
    reference "$@"
    dir=$work/fault
    for kind in $kinds; do
        export FAULT_KIND FAULT_AT; FAULT_KIND=$kind
        n=$step count=0
        while :; do
            FAULT_AT=$n; : > "$FAULT_LOG"
            rm -rf "$dir"; cp -r "$base" "$dir" && cd "$dir" || exit 1
            in_folder "$@"; status=$?
            [ -s "$FAULT_LOG" ] || break
            judge "$status" "$@"
            n=$((n + step * (1 + n / (step * dense)))) count=$((count + 1))
        done
        counts="$counts $FAULT_KIND $count," all=$((all + count))
    done
    cat "$work/harmless" >> "$found.harmless"; echo $all >> "$found.count"
    echo "$name:$counts $(($(date +%s) - start)) s"
}

# All faults of all commands whose name contains $1, a process for each core.
faults()
{
    base
    commands > "$base.commands"
    : > "$found.harmless"
    export BIN="$bin" BASE="$base" FOUND="$found" STEP="$step" DENSE="$dense"
    cut -d' ' -f1 "$base.commands" | grep -e "$1" |
        xargs -n 1 -P "$(getconf _NPROCESSORS_ONLN || echo 2)" sh data/torture.sh faults_of
    unset BIN BASE FOUND STEP DENSE
    echo "faults: $(awk '{ n += $1 } END { print n + 0 }' "$found.count"), of which $(wc -l < "$found.harmless") changed nothing, at these places:"
    cut -d' ' -f2- "$found.harmless" | sort | uniq -c | sort -rn | head -20
}

# Every command writes to a full device.
full()
{
    base; tried=0
    commands > "$work/commands"
    while read -r name mode line; do
        dir=$work/full; rm -rf "$dir"; cp -r "$base" "$dir" && cd "$dir" || exit 1
        program=${line%% *}
        # shellcheck disable=SC2086
        echo a | "$bin/$program" ${line#* } > /dev/full 2> "$dir.err"; status=$?
        tried=$((tried + 1))
        [ $status = 1 ] && [ "$(grep -c '^error: ' "$dir.err")" = 1 ] ||
            finding "$name > /dev/full: status $status, says: $(head -2 "$dir.err")"
    done < "$work/commands"
    cd "$root" || exit 1
    echo "full: $tried commands"
}

# Kill -9 after a random time, 25 times each; after every fifth kill and after a run that was faster
# than its kill, once more to the end. All on two threads. The steps are short, so that many kills
# meet a file that is being written. With mode "whole", which commands have that save nothing on the
# way, every file is complete after every kill.
kills()
{
    base; total=0 all=0 wanted=$1
    data="--model data/mini.bin --tokenizer data/mini_tokenizer.bin"
    "$bin/prepare" examples data/shop.jsonl --out "$work/shop" --context 256 --val 0.03 --seed 5 \
        --tokenizer data/mini_tokenizer.bin > /dev/null
    long="--data $work/shop --context 16 --batch 1 --save-every 1 --eval-every 2 --limit 2 --show 0"
    export OMP_NUM_THREADS=2
    while read -r name mode line; do
        case $name in *$wanted*) ;; *) continue ;; esac
        # shellcheck disable=SC2086
        set -- $line
        clean=$work/killed_clean dir=$work/killed
        for out in "$clean" "$dir"; do rm -rf "$out"; mkdir "$out"; done
        start=$(date +%s%N)
        "$bin/$@" --out "$clean/r" > /dev/null 2> "$dir.err" || finding "$name: $(cat "$dir.err")"
        took=$((($(date +%s%N) - start) / 1000000)) starts=0 killed=0 more=
        [ "$name" = train ] && more=--resume
        while [ $killed -lt ${KILLS:-25} ]; do
            total=$((total + 1)) moment=$(random $took $total) starts=$((starts + 1))
            timeout -s KILL "$(printf %d.%03d $((moment / 1000)) $((moment % 1000)))" \
                "$bin/$@" --out "$dir/r" $more > /dev/null 2> "$dir.err"; status=$?
            for f in "$dir/r" "$dir"/r/*/; do                 # a killed process needs some time to end
                [ ! -d "$f" ] || flock "$f" true
            done
            [ "$mode" = whole ] && for f in $(cd "$dir" && find . -type f ! -name '*.partial'); do
                cmp -s "$clean/$f" "$dir/$f" || finding "$name: $f is incomplete after a kill"
            done
            [ $status = 137 ] && killed=$((killed + 1)) && [ $((killed % 5)) != 0 ] && continue
            [ $status = 137 ] || [ $status = 0 ] || finding "$name: status $status after a kill: $(head -1 "$dir.err")"
            "$bin/$@" --out "$dir/r" $more > /dev/null 2> "$dir.err" ||
                finding "$name: status $? after the last kill: $(head -1 "$dir.err")"
            same_as_never_killed
        done
        all=$((all + killed))
        echo "$name: $killed kills of $starts starts, in runs of $took ms"
    done <<END
train       again  train_gpt train $data $long --steps 8
search      again  prepare search $data $long --steps 3 --lr 1e-4,1e-3
examples    whole  prepare examples data/shop.jsonl --tokenizer data/mini_tokenizer.bin --context 256
export      whole   prepare export data/mini.bin --tokenizer data/mini_tokenizer.bin
END
    export OMP_NUM_THREADS=1
    echo "kills: $all"
}

# Compare the results in $dir with those in $clean, and begin with an empty folder again.
same_as_never_killed()
{
    cd "$clean" || exit 1
    for f in $(find . -name '*.bin' ! -name state.bin -o -name '*.safetensors' -o -name '*.jsonl' ! -name samples.jsonl ! -name search.jsonl); do
        cmp -s "$f" "$dir/$f" || finding "$name: $f is another after kills"
    done
    for f in $(find . -name log.csv); do
        same_log "$f" "$dir/$f" || finding "$name: $f is another after kills"
    done
    cd "$root" || exit 1
    [ "$mode" = whole ] || [ -z "$(find "$dir" -name '*.partial')" ] || finding "$name: a temporary file is left"
    rm -rf "$dir"; mkdir "$dir"
}

# ---- the parts

# Build the programs with faults, and the address sanitizer unless $1 forbids it.
build()
{
    for program in tokenizer $2; do
        ${CC:-cc} -O1 -w $1 -include data/faults.h -o "$work/$program" $program.c -lm || exit 1
    done
    bin=$work
}

if [ "$1" = faults_of ]; then
    bin=$BIN
    faults_of "$2"
    exit
fi
: > "$found"
for part in "${@:-all}"; do
    case $part in
    faults|all)
        bin=${BIN:-} others=
        commands | grep "^[a-z_]*${NAME:-}" | grep -qv ' tokenizer ' && others="train_gpt prepare"
        [ "$bin" ] || build -fsanitize=address "$others"
        faults "${NAME:-}" ;;
    esac
    case $part in quick) build '' ' ';  step=7 dense=20; faults 'encode\|vocab' ;; esac
    case $part in kills|all) bin=${BIN:-$root}; kills "${NAME:-}" ;; esac
    case $part in full|all|quick) bin=${BIN:-$root}; full ;; esac
done
echo "findings: $(wc -l < "$found")"
[ ! -s "$found" ]
