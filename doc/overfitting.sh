#!/bin/sh
# The measurements of doc/8-overfitting.md: 60 examples, ten epochs, five seeds for each setting.
#   sh doc/overfitting.sh FOLDER ["NAME OPTIONS" ...]        FOLDER/NAME.txt has a line for each seed:
#   seed, training loss at the end, lowest validation loss, its step, validation loss at the end
# A seed decides which rows of data/topics.jsonl train, which 120 are held out, and the run's random
# numbers. NAME rows-N trains on N examples. Seeds that FOLDER/NAME.txt has are not run again.
out=${1:?usage: sh doc/overfitting.sh FOLDER}; shift
[ $# -gt 0 ] || set -- "plain" "dropout --dropout 0.1 --embedding-dropout 0.1" "freeze-1 --freeze 1" \
    "freeze-3 --freeze 3" "rows-120" "decay-0 --decay 0" "decay-1 --decay 1" "l1 --l1 0.01" \
    "smoothing --smoothing 0.1" "noise --noise 0.1" "patience --patience 3" "rows-30" "rows-240"
mkdir -p "$out"
for setting; do
    name=${setting%% *}; options=${setting#"$name"}; rows=60
    case $name in rows-*) rows=${name#rows-};; esac
    for seed in 1 2 3 4 5; do
        grep -qs "^$seed " "$out/$name.txt" && continue
        d=$out/$name-$seed
        awk -v s=$seed 'BEGIN { srand(s) } { print rand() "\t" $0 }' data/topics.jsonl | sort -n | cut -f2- > "$d.all"
        head -n 120 "$d.all" > "$d.held.jsonl"
        tail -n +121 "$d.all" | head -n $rows > "$d.jsonl"
        ./prepare examples "$d.jsonl" --test "$d.held.jsonl" --out "$d" --val 0 --context 64 \
            --tokenizer data/mini_tokenizer.bin > /dev/null && mv "${d}_test.bin" "${d}_val.bin" || exit
        ./train_gpt --model data/mini.bin --tokenizer data/mini_tokenizer.bin --data "$d" --out "$d" \
            --context 64 --batch 4 --epochs 10 --lr 1e-3 --eval-every $((rows / 6)) --show 0 --seed $seed \
            $options > /dev/null || exit
        awk -F, -v s=$seed '$4 != "" { t = $4 } $5 != "" { v = $5; if (best == "" || v < best) { best = v; at = $1 } }
            END { print s, t, best, at, v }' "$d/log.csv" >> "$out/$name.txt"
        rm -f "$d"/*.bin
    done
done
# A row for each setting: the mean lowest and last validation loss, and the mean differences from
# plain, seed by seed, with 95% intervals by Student's t.
for file in "$out"/*.txt; do
    awk -v name="$(basename "$file" .txt)" '
        function interval(d, n,   i, mean, s) {
            for (i = 1; i <= n; i++) mean += d[i] / n
            for (i = 1; i <= n; i++) s += (d[i] - mean) ^ 2 / (n - 1)
            s = 2.776 * sqrt(s / n)
            return sprintf("%+.3f [%+.3f, %+.3f]", mean, mean - s, mean + s)
        }
        NR == FNR { lowest[$1] = $3; last[$1] = $5; next }
        { n++; a += $3; b += $5; d[n] = $3 - lowest[$1]; e[n] = $5 - last[$1] }
        END { printf "%-10s %.3f  %.3f  %s  %s\n", name, a / n, b / n, interval(d, n), interval(e, n) }
    ' "$out/plain.txt" "$file"
done
