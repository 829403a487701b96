#!/bin/sh
# The measurements of doc/8-overfitting.md: 60 examples, ten epochs, five seeds for each setting.
#   sh doc/overfitting.sh FOLDER ["NAME OPTIONS" ...]        FOLDER/NAME.txt has a line for each seed:
#   seed, training loss at the end, lowest validation loss, its step, validation loss at the end
# A seed decides which rows of data/topics.jsonl train and are held out, and the run's random numbers.
# NAME rows-N trains on N examples.
out=${1:?usage: sh doc/overfitting.sh FOLDER}; shift
[ $# -gt 0 ] || set -- "plain" "dropout --dropout 0.1 --embedding-dropout 0.1" "freeze-1 --freeze 1" \
    "rows-120" "decay-0 --decay 0" "l1 --l1 0.01" "smoothing --smoothing 0.1" "noise --noise 0.1" \
    "decay-1 --decay 1" "freeze-3 --freeze 3"
mkdir -p "$out"
for setting; do
    name=${setting%% *}; options=${setting#"$name"}; rows=60
    case $name in rows-*) rows=${name#rows-};; esac
    : > "$out/$name.txt"
    for seed in 1 2 3 4 5; do
        d=$out/$name-$seed
        awk -v s=$seed 'BEGIN { srand(s) } { print rand() "\t" $0 }' data/topics.jsonl | sort -n | cut -f2- > "$d.all"
        head -n 120 "$d.all" > "$d.held.jsonl"
        tail -n +121 "$d.all" | head -n $rows > "$d.rows.jsonl"
        for part in rows held; do
            ./prepare examples "$d.$part.jsonl" --out "$d.$part" --tokenizer data/mini_tokenizer.bin \
                --context 64 --val 0.02 > /dev/null
        done
        cp "$d.rows_train.bin" "$d.run_train.bin"; cp "$d.held_train.bin" "$d.run_val.bin"
        ./train_gpt --model data/mini.bin --tokenizer data/mini_tokenizer.bin --data "$d.run" --out "$d" \
            --context 64 --batch 4 --epochs 10 --lr 1e-3 --eval-every 10 --show 0 --seed $seed $options > /dev/null
        awk -F, -v s=$seed '$4 != "" { t = $4 } $5 != "" { v = $5; if (best == "" || v < best) { best = v; at = $1 } }
            END { print s, t, best, at, v }' "$d/log.csv" >> "$out/$name.txt"
        rm -f "$d"/*.bin
    done
done
