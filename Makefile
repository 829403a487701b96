# make          the three programs, and the demo's data
# make test     proofs: gradients, parity with PyTorch, round trips, bad input
# make torture  faults, full disks and kill -9 for every command; PART=faults, full, kills
# make bench    speed and memory, beside what the machine can do
# make demo-sentiment ... a use case from examples to decision
# make exercises    the functions that a learner can write again; doc/exercises.md
# make debug    the programs again, with sanitizers
# make clean    remove what make has made, and nothing else
#
# Everything can be set from outside: make CC=clang, make OPENMP= (one thread), make ARCH=

CC      ?= cc
ARCH    ?= $(call accepts,-march=native)
WARN    ?= -Wall -Wextra
OPT     ?= -O2

# Is this flag accepted? An OpenMP program is linked, to see that its library is there as well.
accepts  = $(shell echo 'int main(void){return 0;}' | $(CC) -Werror $(1) -x c - -o /dev/null 2>/dev/null && echo $(1))
links    = $(shell printf '\043include <omp.h>\nint main(void){return omp_get_max_threads() < 1;}\n' | \
                   $(CC) $(1) -x c - -o /dev/null 2>/dev/null && echo $(1))
OPENMP  ?= $(call links,-fopenmp)

# MinGW: %zu is right though it is not Windows'; programs need no other file; and since its stack is
# aligned to 16 bytes, no instruction may expect more.
WINDOWS  = $(if $(findstring mingw,$(shell $(CC) -dumpmachine)),-static -Wno-format \
           -Wno-format-extra-args $(call accepts,-Wa$(comma)-muse-unaligned-vector-move))
comma    = ,

# Fused multiply-add; loops may become vectors (no errno, no traps) but NaN and infinity keep their
# meaning; clang would split 512-bit vectors. Without OpenMP its `simd` hints still count.
MATH     = -ffp-contract=fast -fno-math-errno -fno-trapping-math \
           $(if $(OPENMP),$(OPENMP),$(call accepts,-fopenmp-simd)) -Wno-unknown-pragmas \
           $(call accepts,-fwhole-program) \
           $(if $(findstring clang,$(shell $(CC) --version)),$(call accepts,-mprefer-vector-width=512) -Wno-pass-failed)
CFLAGS  ?= $(OPT) $(ARCH) $(WARN)
# What -O3 would add is the vectors; the rest of it doubles the time of compilation for nothing here.
# Small functions are inlined where the source says so.
VECTORS := $(call accepts,-ftree-vectorize -fvect-cost-model=dynamic -fno-inline-small-functions)
BUILD   := $(CC) $(CFLAGS) $(MATH) $(WINDOWS) $(if $(findstring -O2,$(CFLAGS)),$(VECTORS))
DEMO     = data/shop_train.bin
PROGRAMS = train_gpt tokenizer prepare test_gpt test_gpt_double grader

all: train_gpt tokenizer prepare $(DEMO)
	@echo "$(if $(OPENMP),OpenMP found: all cores are used,OpenMP not found: one thread only)"

train_gpt: train_gpt.c tokenizer.c
	$(BUILD) -o $@ $< -lm
prepare: prepare.c train_gpt.c tokenizer.c
	$(BUILD) -o $@ $< -lm
tokenizer: tokenizer.c
	$(BUILD) -o $@ $< -lm
test_gpt: test_gpt.c train_gpt.c prepare.c tokenizer.c
	$(BUILD) -o $@ $< -lm
test_gpt_double: test_gpt.c train_gpt.c prepare.c tokenizer.c
	$(BUILD) -DDOUBLE -o $@ $< -lm

$(DEMO): data/shop.jsonl data/mini_tokenizer.bin prepare
	./prepare examples $< --out data/shop --tokenizer data/mini_tokenizer.bin --context 256 --val 0.03 --seed 5 > data/shop_report.txt

# One command a use case: demo-shop, demo-sentiment, demo-topics, demo-entities, demo-tutor: prepare
# the examples, tune, compare with prompting, draw the page. Settings: TUNE="--lr 5e-4 --epochs 4"
# Labels are learned better with the embedding and the first block kept; they want more held-out rows,
# and no look at these before the end.
TUNE     = --batch 4 --epochs 12 --lr 3e-4 --dropout 0.1 --embedding-dropout 0.1 --eval-every 20 --patience 3
VAL      = 0.1
demo-sentiment demo-topics: TUNE = --batch 4 --epochs 20 --lr 3e-4 --dropout 0.1 --freeze 1 --eval-every 1000
demo-sentiment demo-topics: VAL = 0.3
MINI     = --model data/mini.bin --tokenizer data/mini_tokenizer.bin
demo-%: train_gpt prepare
	./prepare examples data/$*.jsonl --out data/$* $(MINI) --context 256 --val $(VAL)
	./train_gpt $(MINI) --data data/$* --out out/$* $(TUNE)
	./train_gpt compare $(MINI) --tuned out/$*/best.bin --data data/$* --out out/$*
	./prepare report out/$*
demo-stories: train_gpt prepare
	./prepare text data/stories.txt --out data/stories --tokenizer data/mini_tokenizer.bin
	./train_gpt $(MINI) --data data/stories --out out/stories $(TUNE)

# Exercises: exercises/NAME.c is the learner's, and no target removes it. SEED chooses the inputs.
SEED     = 1
LEVEL    = 1
GRADER   = doc/exercises/grader.c
SANITIZE ?= $(call accepts,-fsanitize=address)
GRADE_CC = $(CC) -O0 -g -I. -DDOUBLE $(SANITIZE) $(if $(findstring clang,$(shell $(CC) --version)),-w, \
           $(WARN) -Wno-unused -Wno-unknown-pragmas -Wno-missing-field-initializers \
           $(call accepts,-fmax-errors=5))
# Graded by its speed, on one thread.
grade-tile_kernel: SANITIZE = -O3 $(ARCH) $(filter-out $(OPENMP),$(MATH))
# Compile the grading program of the exercise $$name with the attempt in $$file.
BUILD_GRADER = mkdir -p exercises/build && ./grader write exercises/build/$$name.c $$name "$$file" && \
           $(GRADE_CC) -DVARIANTS="\"exercises/build/$$name.c\"" -o exercises/build/$$name $(GRADER) -lm
JUDGE    = ASAN_OPTIONS=detect_leaks=0:log_path=exercises/build/asan exercises/build/$$name judge
grader: $(GRADER) tokenizer.c
	$(CC) -O0 -w -DDOUBLE -o $@ $< -lm
exercises: grader
	@./grader list
exercise-%: grader
	@./grader begin $*
hint-%: grader
	@./grader hint $* $(LEVEL)
exam: grader
	@./grader begin exam-$(SEED)
grade-%: grader
	@name=$* file=exercises/$*.c; $(BUILD_GRADER) && $(JUDGE) $$name $$file $(SEED)
marks: grader
	@[ -n '$(DIR)' ] || { echo "error: make marks DIR=FOLDER, with files FOLDER/STUDENT/NAME.c" >&2; exit 2; }
	@echo "student,exercise,stars,of,right,checks,mistake"
	@for file in '$(DIR)'/*/*.c; do \
	    [ -f "$$file" ] || { echo "error: $$file: there is no such file" >&2; exit 1; }; \
	    student=$${file%/*}; student=$${student##*/}; name=$$(basename "$$file" .c); \
	    if { $(BUILD_GRADER); } 2>/dev/null; then $(JUDGE) $$name "$$file" $(SEED) "$$student" 2>/dev/null; \
	    else echo "$$student,$$name,0,0,0,0,\"The file does not compile, or contains no exercise.\""; fi; done; true

test: all test_gpt test_gpt_double
	./test_gpt
torture: all
	sh data/torture.sh $(PART)
bench: train_gpt
	./train_gpt bench
debug:
	$(MAKE) --always-make $(PROGRAMS) OPT="-O1 -g -fsanitize=address,undefined"
# Random files for every parser, SECONDS each (data/fuzz.c); needs clang. Inputs that fail are kept.
SECONDS  = 60
FUZZ_DIR = /tmp/fuzz
fuzz: export ASAN_OPTIONS = detect_leaks=0:quarantine_size_mb=2:thread_local_quarantine_size_kb=256:malloc_context_size=4
fuzz:
	@echo 'int LLVMFuzzerTestOneInput(void){return 0;}' | clang -fsanitize=fuzzer -x c - -o /dev/null
	clang -O1 -g -w -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all data/fuzz.c -o $(FUZZ_DIR).run -lm
	FOLDER=$(FUZZ_DIR) $(FUZZ_DIR).run
	@for target in $$(ls $(FUZZ_DIR)); do echo "== $$target"; \
	    FUZZ=$$target $(FUZZ_DIR).run -max_total_time=$(SECONDS) -timeout=60 -rss_limit_mb=2000 \
	    -malloc_limit_mb=1000 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=$(FUZZ_DIR).found- $(FUZZ_DIR)/$$target || exit 1; done
clean:
	rm -f $(PROGRAMS) $(addprefix data/shop_,train.bin val.bin report.txt report.jsonl)

.PHONY: all test torture bench debug fuzz clean exercises exam marks
