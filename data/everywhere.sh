#!/bin/sh
# The suite in one configuration after another:  sh data/everywhere.sh [PART_OF_NAME [PART_OF_TEST]]
# Each is built from the tracked files in a folder of its own and prints one row of the table in
# doc/everywhere.md. A row whose compiler or emulator is missing is told and left out.
# RUN, such as "nice -n 5", is put before builds and tests; FOLDER is where they are done.
# Ends with status 1 if a build or a test failed.
set -u
RUN=${RUN:-} FOLDER=${FOLDER:-/tmp/everywhere} failed=0
ROOT=$(cd "$(dirname "$0")/.." && pwd)
WANTED=${1:-} TESTS=${2:-}
export OMP_WAIT_POLICY=passive

# row NAME EMULATOR TESTS SETTINGS...: EMULATOR (- for none) runs the programs, each of which becomes
# a script that starts it. TESTS are the parts of test names to be run, "" for all.
row()
{
    name=$1 emulator=$2 tests=${TESTS:-$3}
    shift 3
    case $name in *"$WANTED"*) ;; *) return ;; esac
    compiler=cc
    for word; do case $word in CC=*) compiler=${word#CC=} ;; esac; done
    for tool in ${compiler%% *} $emulator; do
        [ "$tool" = - ] && continue
        command -v "$tool" > /dev/null || { echo "| $name | $tool is not here | | | |"; return; }
    done
    place=$FOLDER/$(echo "$name" | tr ' ' _) start=$(date +%s)
    rm -rf "$place" && mkdir -p "$place" && (cd "$ROOT" && git ls-files -z | xargs -0 tar cf -) |
        tar xf - -C "$place"
    cd "$place" || exit 1
    programs="train_gpt tokenizer prepare test_gpt test_gpt_double"
    # shellcheck disable=SC2086
    if ! $RUN make -s "$@" $programs > build.log 2>&1; then
        echo "| $name | the build failed: $place/build.log | | | |"
        failed=1
        return
    fi
    for program in $programs; do
        [ "$emulator" = - ] && break
        mv $program $program.real
        printf '#!/bin/sh\nexec %s %s/%s.real "$@"\n' "$emulator" "$place" $program > $program
        chmod +x $program
    done
    for test in ${tests:-all}; do
        [ "$test" = all ] && test=
        # shellcheck disable=SC2086
        $RUN ./test_gpt $test >> test.log 2>&1
    done
    awk -v name="$name" -v seconds=$(($(date +%s) - start)) '
        /^[0-9]+ passed, [0-9]+ failed/ { passed = $1; failed = $3; skipped = $5 + 0
                                          P += passed; F += failed; S += skipped; lines++ }
        END { printf "| %s | %d | %d | %d | %d |\n", name, P, F, S, seconds
              exit !lines || F > 0 }' test.log || failed=1
}

short="exp gelu layernorm linear attention product causality JSON tokenizer loader"
echo "| Configuration | passed | failed | skipped | seconds |"
echo "|---|---|---|---|---|"
for level in 0 1 2 3; do
    row "gcc -O$level" - "" CC=gcc OPT=-O$level
    row "clang -O$level" - "" CC=clang OPT=-O$level
done
row "gcc without OpenMP" - "" CC=gcc OPENMP=
row "clang without OpenMP" - "" CC=clang OPENMP=
row "gcc SSE2" - "" CC=gcc ARCH=-march=x86-64
row "gcc AVX2" - "" CC=gcc ARCH=-march=haswell
row "musl" - "" CC="musl-gcc -static"
row "Arm" qemu-aarch64-static "$short" CC="aarch64-linux-gnu-gcc -static" ARCH=
exit $failed
